"""Rows of one's own: exact match and ROUGE-L, against rouge-score."""

import json
import random
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from fedloom.evaluation.asking.requests import Generate, Text
from fedloom.evaluation.statistics.numbers import numbers_of
from fedloom.evaluation.tasks.base import BadData, Item
from fedloom.evaluation.tasks.own.instruction_rows import InstructionRows
from fedloom.evaluation.tasks.own.rouge import rouge_l
from tests.support.published.files import write_csv, write_jsonl, write_parquet
from tests.support.stand_in_models import StandIn, saying

TEXTS = [
    "The quick brown fox jumps over the lazy dog",
    "The quick brown dog jumps on the log.",
    "a",
    "b",
    "",
    "...",
    "naïve café, 3.5% of CO2-levels; it's",
    "naive cafe 3 5 of co2 levels it s",
    "\u6536\u5165\u589e\u957f",
    "the the the the cat the",
]


@pytest.mark.parametrize("reference", TEXTS)
def test_rouge_l_is_rouge_scores(reference: str) -> None:
    scorer = RougeScorer(["rougeL"])
    for prediction in TEXTS:
        expected = scorer.score(reference, prediction)["rougeL"].fmeasure
        assert rouge_l(reference, prediction) == pytest.approx(expected, abs=1e-12)


def test_rouge_l_of_long_texts_is_rouge_scores() -> None:
    generator, scorer = random.Random(0), RougeScorer(["rougeL"])
    for _ in range(20):
        one, other = (" ".join(generator.choices("abcdefgh", k=generator.randint(50, 200))) for _ in range(2))
        assert rouge_l(one, other) == pytest.approx(scorer.score(one, other)["rougeL"].fmeasure, abs=1e-12)


def item(prompt: str, completion: str, place: int = 0) -> Item:
    return Item(str(place), "", {"prompt": prompt, "completion": completion})


def test_exact_match_and_rouge_l_of_replies() -> None:
    replies = {"a": " Paris \n", "b": "paris", "c": "in Paris", "d": ""}
    task = InstructionRows()
    items = [item(prompt, "Paris", place) for place, prompt in enumerate(replies)]
    model = StandIn(lambda request: Text(replies[request.prompt], 1, is_complete=request.prompt != "c"))
    numbers = {each.metric.name: each for each in numbers_of(task, task.run(items, model), 4)}
    assert numbers["exact"].value == 0.25
    assert numbers["rouge_l"].value == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    assert numbers["exact"].flags == {"empty": 1, "unfinished": 1}
    assert model.asked == [Generate(prompt, max_new_tokens=256) for prompt in replies]


def test_completions_without_a_word_that_rouge_counts_are_no_zero() -> None:
    task = InstructionRows()
    items = [item("a", "\u6536\u5165\u589e\u957f"), item("a", "yes", 1)]
    numbers = {each.metric.name: each for each in numbers_of(task, task.run(items, saying("yes")), 2)}
    assert (numbers["rouge_l"].value, numbers["rouge_l"].n, numbers["rouge_l"].n_problems) == (1.0, 1, 1)
    assert (numbers["exact"].value, numbers["exact"].n) == (0.5, 2)


def test_prompts_are_text_or_in_the_chat_template() -> None:
    model = saying("x", has_chat=True)
    InstructionRows().run([item("a", "b")], model)
    InstructionRows(in_chat=True).run([item("a", "b")], model)
    assert [request.prompt for request in model.asked if isinstance(request, Generate)] == [
        "a",
        "<user>a</><assistant>",
    ]


def test_a_row_that_does_not_fit_is_a_problem() -> None:
    model = saying("x", n_positions=300)
    long, short = InstructionRows().run([item("a " * 44, "b"), item("a " * 43, "b", 1)], model)
    assert (long.problem, short.problem) == ("needs 301 positions, and the model has 300", "")


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
def test_rows_are_read_in_each_layout(tmp_path: Path, write: object) -> None:
    suffix = {write_csv: "csv", write_jsonl: "jsonl", write_parquet: "parquet"}[write]  # type: ignore[index]
    rows = [{"prompt": "p", "completion": "None", "group": "g"}]
    write(tmp_path / f"rows/test.{suffix}", rows)  # type: ignore[operator]
    found = InstructionRows().load(tmp_path)
    assert found.items == [Item("0", "g", {"prompt": "p", "completion": "None"})]
    assert found.n_published == 1


def test_instruction_input_and_output_are_read_too(tmp_path: Path) -> None:
    rows = [{"instruction": "i", "input": "x", "output": "o"}, {"instruction": "i", "input": "", "output": "o"}]
    (tmp_path / "mine.json").write_text(json.dumps(rows))
    found = InstructionRows(path="mine.json").load(tmp_path)
    assert [item.content["prompt"] for item in found.items] == ["i\n\nx", "i"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "secret"}, "row 2 has no text as completion"),
        ({"prompt": "secret", "completion": 5}, "row 2 has no text as completion"),
        ({"prompt": " ", "completion": "secret"}, "row 2: the prompt or the completion is empty"),
        ({"text": "secret"}, "row 2 has no text as instruction"),
        (["secret"], "row 2 has no columns"),
    ],
)
def test_a_broken_row_is_refused_by_its_place_and_not_quoted(tmp_path: Path, row: object, message: str) -> None:
    (tmp_path / "rows").mkdir()
    lines = [json.dumps({"prompt": "p", "completion": "c"}), json.dumps(row)]
    (tmp_path / "rows/test.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadData) as caught:
        InstructionRows().load(tmp_path)
    assert str(caught.value) == f"rows/test.jsonl: {message}"
