"""Sets of code: every reference passes, no bug does, and BLEU is what the evaluator of the set gives."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from fedloom.evaluation.sandbox.program import Kind, Program
from fedloom.evaluation.sandbox.sandbox import Sandbox
from fedloom.evaluation.tasks.base import Item
from fedloom.evaluation.tasks.code.bleu import bleu, like_conala
from fedloom.evaluation.tasks.code.code_task import CodeTask
from fedloom.evaluation.tasks.code.names import CODE_TASKS
from tests.real.conftest import SHARED
from tests.support.stand_in_models import StandIn

DATA = SHARED / "data" / "eval"


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    return Sandbox()


def loaded(name: str) -> tuple[Any, list[Item]]:
    """A task, and its items; the file is the published one."""
    task = CODE_TASKS[name]()
    items = task.load(DATA)
    assert items.notes == [], items.notes
    return task, list(items.items)


REFERENCES: dict[str, tuple[str, int, Callable[[Any], str]]] = {
    "HumanEval": ("humaneval", 164, lambda row: row["prompt"] + row["canonical_solution"]),
    "HumanEvalPack": ("humanevalfix", 164, lambda row: row["declaration"] + row["canonical_solution"]),
    "MBPP": ("mbpp", 500, lambda row: row["code"]),
    "MBPP sanitized": ("mbpp_sanitized", 257, lambda row: row["code"]),
}


@pytest.mark.parametrize(("name", "n", "answer"), REFERENCES.values(), ids=REFERENCES.keys())
def test_every_reference_passes(sandbox: Sandbox, name: str, n: int, answer: Callable[[Any], str]) -> None:
    task, items = loaded(name)
    results = sandbox.run([task.examined(item, answer(item.content)) for item in items])
    assert len(results) == n
    others = {item.id: result for item, result in zip(items, results, strict=True) if result.kind is not Kind.PASSED}
    assert others == {}


def test_no_bug_passes(sandbox: Sandbox) -> None:
    task, items = loaded("humanevalfix")
    programs = [task.examined(item, item.content["declaration"] + item.content["buggy_solution"]) for item in items]
    results = sandbox.run(programs)
    assert {result.kind for result in results} <= {Kind.FAILED, Kind.TIMED_OUT}
    assert len(results) == 164


@pytest.mark.parametrize(
    ("name", "in_chat"),
    [("humaneval", True), ("humanevalfix", False), ("humanevalfix_docs", True), ("humanevalsyn", True)],
)
def test_a_model_that_knows_the_references_gets_them_all(name: str, in_chat: bool, sandbox: Sandbox) -> None:
    """Through prompts and replies: completions as they are, chat replies with the whole function in a block."""
    task, items = loaded(name + "_chat" * in_chat)
    assert isinstance(task, CodeTask)
    solutions = iter(items)

    def reply(_: object) -> str:
        row = next(solutions).content
        body = row["canonical_solution"]
        if in_chat:
            head = row.get("declaration") or row["prompt"]
            return f"Here it is.\n\n```python\n{head[head.rindex('def ' + row['entry_point']) :]}{body}```\n\nIt works."
        return f"\n{body}\n\nprint('and so on')"

    outcomes = task.run(items, StandIn(reply, has_chat=in_chat))
    assert [outcome.item for outcome in outcomes if outcome.values != {"pass@1": 1.0}] == []


def test_the_answer_of_another_problem_does_not_pass(sandbox: Sandbox) -> None:
    task, items = loaded("humaneval")
    programs: list[Program] = []
    for item, other in zip(items, [*items[1:], items[0]], strict=True):
        renamed = other.content["prompt"].replace(other.content["entry_point"], item.content["entry_point"])
        programs.append(task.examined(item, renamed + other.content["canonical_solution"]))
    n_passed = sum(result.kind is Kind.PASSED for result in sandbox.run(programs))
    assert n_passed == 0


def test_concode_is_scored_as_its_evaluator_does() -> None:
    task, items = loaded_slice("concode")
    predictions = (DATA / "concode" / "predictions_first100.txt").read_text().splitlines()
    lines = iter(predictions)
    outcomes = task.run(items[:100], StandIn(lambda _: next(lines)))
    assert sum(outcome.values["em"] for outcome in outcomes) == 17
    assert round(100 * task.compute(task.metrics[0], outcomes), 2) == 16.68


def test_bleu_is_sacrebleus_on_the_same_tokens() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    _, items = loaded_slice("concode")
    predictions = (DATA / "concode" / "predictions_first100.txt").read_text().splitlines()
    references = [item.content["reference"] for item in items[:100]]
    options = {"smooth_method": "none", "tokenize": "none", "force": True}
    theirs = sacrebleu.corpus_bleu(predictions, [references], **options)
    pairs = list(zip(predictions, references, strict=True))
    assert round(theirs.score, 2) == 16.67
    assert 100 * bleu(pairs, "bleu_codexglue") == pytest.approx(theirs.score, abs=0.02)


def test_conala_has_an_instruction_for_each_row() -> None:
    task, items = loaded("conala")
    outcomes = task.run(items, StandIn(lambda _: "x = 1"))
    assert len(outcomes) == 500
    assert all(0 <= task.compute(metric, outcomes) < 0.05 for metric in task.metrics)


def test_the_conala_sites_bleu_is_sacrebleus_on_its_tokens() -> None:
    """Each snippet is answered with the next one's first line after its own, so that some n-grams match."""
    sacrebleu = pytest.importorskip("sacrebleu")
    task, items = loaded("conala")
    references = [item.content["reference"] for item in items]
    answers = [
        f"{one} {other}".split("\n")[0] for one, other in zip(references, references[1:] + references[:1], strict=True)
    ]
    replies = iter(answers)
    outcomes = task.run(items, StandIn(lambda _: next(replies)))
    cut = [[" ".join(like_conala(text)) for text in texts] for texts in (answers, references)]
    theirs = sacrebleu.corpus_bleu(cut[0], [cut[1]], smooth_method="none", tokenize="none", force=True)
    assert 100 * task.compute(task.metrics[1], outcomes) == pytest.approx(theirs.score, abs=1e-9)
    thirteen = sacrebleu.corpus_bleu(answers, [references], smooth_method="none", tokenize="13a", force=True)
    assert 100 * task.compute(task.metrics[0], outcomes) == pytest.approx(thirteen.score, abs=0.05)


def loaded_slice(name: str) -> tuple[Any, list[Item]]:
    task = CODE_TASKS[name]()
    return task, list(task.load(DATA).items)
