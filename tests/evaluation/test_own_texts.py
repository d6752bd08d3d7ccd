"""Perplexity of texts and reward accuracy of pairs, against lm-evaluation-harness and formulas."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.requests import Likelihood, Rolling, Scored
from fedloom.evaluation.tasks.base import BadData, Outcome
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published.files import write, write_jsonl
from tests.support.stand_in_models import StandIn, uniform
from tests.support.tiny import CORPUS, PAIRS
from tests.train.conftest import Lab

NewModel = Callable[..., ChildModel]


def run(name: str, data: Path, model: Any) -> tuple[Any, list[Outcome]]:
    task = TASKS[name]()
    return task, task.run(task.load(data).items, model)


def test_perplexity_is_that_of_the_harness(lab: Lab, new_model: NewModel, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from tests.evaluation.directly import evaluate
    from tests.evaluation.harness_lm import hflm

    texts = [" ".join(CORPUS), "the water rises", "ein Satz mit Ümlauten\nund zwei Zeilen"]
    write_jsonl(tmp_path / "perplexity/texts.jsonl", [{"text": text} for text in texts])
    task, outcomes = run("perplexity", tmp_path, new_model())
    direct = evaluate(
        hflm(lab.model),
        "wikitext/wikitext.yaml",
        [{"page": text} for text in texts],
        process_docs=None,
        doc_to_target="{{page}}",
        process_results=None,
    )
    for metric in task.metrics[:3]:
        assert task.compute(metric, outcomes) == pytest.approx(direct[f"{metric.name},none"], rel=1e-6)
    assert all(outcome.texts is not None for outcome in outcomes), "each document counts"
    assert "water" not in repr(outcomes)


def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary(tmp_path: Path) -> None:
    write(tmp_path / "perplexity/texts.txt", "one two three four\n" * 3)
    model = StandIn(lambda request: Scored(-len(request.text.split()) * math.log(320), len(request.text.split())))
    task, outcomes = run("perplexity", tmp_path, model)
    values = {metric.name: task.compute(metric, outcomes) for metric in task.metrics}
    assert values["token_perplexity"] == pytest.approx(320)
    assert values["byte_perplexity"] == pytest.approx(math.exp(12 * math.log(320) / 57))
    assert values["bits_per_byte"] == pytest.approx(math.log2(values["byte_perplexity"]))
    assert values["word_perplexity"] == pytest.approx(math.exp(12 * math.log(320) / 13)), "as the harness counts words"
    assert model.asked == [Rolling("one two three four\n" * 3)]
    assert all(metric.best == -1 for metric in task.metrics)


def test_a_file_without_text_has_no_perplexity(tmp_path: Path) -> None:
    write(tmp_path / "perplexity/texts.txt", " \n")
    with pytest.raises(BadData, match="has no text"):
        TASKS["perplexity"]().load(tmp_path)


@pytest.mark.deep
def test_reward_accuracy_of_a_model(lab: Lab, new_model: NewModel, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{row['instruction']}\n", "chosen": row["chosen"], "rejected": row["rejected"]}
        for row in PAIRS[:12]
    ]
    write_jsonl(tmp_path / "preferences/pairs.jsonl", rows)
    model = new_model()
    _, outcomes = run("preferences", tmp_path, model)
    for row, outcome in zip(rows, outcomes, strict=True):
        chosen, rejected = model.ask([Likelihood(row["prompt"], row[name]) for name in ("chosen", "rejected")])
        assert outcome.values == {
            "acc": float(chosen.log_prob > rejected.log_prob),
            "acc_norm": float(chosen.log_prob / chosen.n_tokens > rejected.log_prob / rejected.n_tokens),
        }
    assert 0 < fmean(outcome.values["acc"] for outcome in outcomes) < 1


def test_reward_accuracy_by_chance_and_with_ties(tmp_path: Path) -> None:
    rows = [{"prompt": f"Why {i}?", "chosen": f" Because {i}", "rejected": " No"} for i in range(400)]
    write_jsonl(tmp_path / "preferences/pairs.jsonl", rows)
    task, outcomes = run("preferences", tmp_path, uniform())
    share = fmean(outcome.values["acc"] for outcome in outcomes)
    assert abs(share - 0.5) < 3 * (0.25 / 400) ** 0.5
    _, outcomes = run("preferences", tmp_path, StandIn(lambda _: Scored(-1.0, 1)))
    assert {outcome.values["acc"] for outcome in outcomes} == {0.0}
    assert {outcome.flags for outcome in outcomes} == {frozenset({"tie"})}
    assert task.metrics[0].chance == 0.5


def test_pairs_of_whole_conversations_are_split_before_the_last_reply(tmp_path: Path) -> None:
    talk = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"
    row = {"chosen": f"{talk} Because it rains.", "rejected": f"{talk} Because I say so."}
    write_jsonl(tmp_path / "preferences/pairs.jsonl", [row])
    (item,) = TASKS["preferences"]().load(tmp_path).items
    assert item.content == {"prompt": talk, "chosen": " Because it rains.", "rejected": " Because I say so."}
    model = uniform(has_chat=True)
    run("preferences_chat", tmp_path, model)
    assert isinstance(model.asked[0], Likelihood)
    assert model.asked[0].context == f"<user>{talk}</><assistant>"
    assert TASKS["preferences_chat"]().in_chat


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        ({"chosen": "b", "rejected": "c"}, "no prompt, and no conversation"),
        ({"prompt": 1, "chosen": "b", "rejected": "c"}, "are not texts"),
        ({"prompt": "a", "chosen": "b"}, "no rejected"),
    ],
)
def test_pairs_that_are_none_are_refused(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "preferences/pairs.jsonl", [{"prompt": "p", "chosen": "x", "rejected": "y"}, row])
    with pytest.raises(BadData, match=f"row 2.*{message}"):
        TASKS["preferences"]().load(tmp_path)
