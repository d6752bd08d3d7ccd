"""CoNaLa and ConCode on rows that were made up in the published formats."""

from pathlib import Path

import pytest

from fedloom.evaluation.tasks.base import BadData
from fedloom.evaluation.tasks.code.bleu import bleu
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import code as made_up
from tests.support.published.code import write
from tests.support.stand_in_models import StandIn, saying


def test_conala(tmp_path: Path) -> None:
    write(tmp_path, "conala/conala-test.json", made_up.CONALA)
    task = TASKS["conala"]()
    items = task.load(tmp_path)
    model = saying(" sum(x)\nprint(1)")
    outcomes = task.run(items.items, model)
    assert [request.prompt for request in model.asked] == [
        "Answer the following instructions in one line of Python code:\n\nInstruction:\nconvert a list of integers "
        "into a single integer\nSolution:\nr = int(''.join(map(str, x)))\nInstruction:\nhow to convert a datetime "
        "string back to datetime object?\nSolution:\ndatetime.datetime.strptime(str, '%m/%d/%Y')\nInstruction:\n"
        f"{asked}\nSolution:\n"
        for asked in ("sum list `x`", "sort it")
    ]
    assert {request.stop for request in model.asked} == {("\n",)}
    pairs = [("sum(x)", "sum(x)"), ("sum(x)", "sorted(x)")]
    assert [outcome.texts for outcome in outcomes] == pairs
    assert [metric.name for metric in task.metrics] == ["bleu_13a", "bleu_conala"]
    for metric in task.metrics:
        assert task.compute(metric, outcomes) == bleu(pairs, metric.name)
    assert items.notes == ["a slice: 2 of 500 items"]


def test_a_line_of_a_chat_reply(tmp_path: Path) -> None:
    write(tmp_path, "conala/conala-test.json", made_up.CONALA)
    task = TASKS["conala_chat"]()
    replies = iter(["Use this:\n```python\nsum(x)\n```\nor a loop.", "sorted(x)\nIt sorts."])
    outcomes = task.run(task.load(tmp_path).items, StandIn(lambda _: next(replies), has_chat=True))
    assert [outcome.texts for outcome in outcomes] == [("sum(x)", "sum(x)"), ("sorted(x)", "sorted(x)")]


def test_concode(tmp_path: Path) -> None:
    write(tmp_path, "concode/dev.json", made_up.CONCODE)
    task = TASKS["concode"]()
    items = task.load(tmp_path).items
    model = saying("int function ( )  { return total ; }")
    (right,) = task.run(items, model)
    assert model.asked[0].prompt.endswith("\nInstruction:\nGets the total\nSolution:\n")
    assert model.asked[0].prompt.startswith("Answer the following instructions in a one line of Java code:\n\nInst")
    assert right.values == {"em": 1.0}
    (wrong,) = task.run(items, saying(""))
    assert (wrong.values, wrong.flags) == ({"em": 0.0}, {"empty"})


def test_a_test_set_without_answers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "concode/dev.json", [{**made_up.CONCODE[0], "code": ""}])
    with pytest.raises(BadData, match=r"row 1 has no answer; the test set hides them, use dev\.json"):
        TASKS["concode"]().load(tmp_path)
