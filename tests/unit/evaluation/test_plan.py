"""What an evaluation is asked to do, and what is refused before anything is read."""

from pathlib import Path

import pytest

from fedloom.errors import EvaluationError
from fedloom.evaluation.asking.requests import Generate
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.report.page import page
from fedloom.evaluation.running.run import before_run, run
from fedloom.evaluation.tasks.code.names import CODE_TASKS
from tests.support.counting_model import CountingModel
from tests.support.published.files import write_jsonl

FINANCE = "tasks: [fpb, tfns, perplexity, rows]\ntitle: Ours\n"


def suite(folder: Path, averages: str, head: str = FINANCE) -> str:
    path = folder / "ours.yaml"
    path.write_text(f"{head}averages:\n  - {averages}\n")
    return str(path)


@pytest.mark.parametrize(
    ("averages", "said"),
    [
        (
            "{title: mean, metrics: [acc], tasks: [fpb, tfnss]}",
            "tfnss is not among the suite's tasks; did you mean tfns",
        ),
        ("{title: mean, metrics: [f1_macr], tasks: [fpb, tfns]}", "fpb has no metric f1_macr; did you mean f1_macro?"),
        ("{title: mean, metrics: [exact], tasks: [fpb, rows]}", "fpb has no metric exact"),
    ],
)
def test_a_mean_that_no_run_could_give_is_refused(tmp_path: Path, averages: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=said.replace("?", r"\?")):
        planned(suite(tmp_path, averages), None, data=tmp_path)


def test_the_suites_title_heads_the_page(tmp_path: Path) -> None:
    ours = planned(suite(tmp_path, "{title: mean, metrics: [acc], tasks: [fpb, tfns]}"), None, data=tmp_path)
    assert "<h1>Evaluation: Ours</h1>" in page(before_run(ours, [], []))
    assert "<h1>Evaluation: tasks by name</h1>" in page(before_run(planned(None, ["fpb"], data=tmp_path), [], []))


def test_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            "from fedloom.evaluation.tasks.own.instruction_rows import InstructionRows\n\n\n"
            "class Mine(InstructionRows):\n    pass\n"
        )
    with pytest.raises(EvaluationError, match="two tasks have the name rows"):
        planned(None, [str(tmp_path / "one.py:Mine"), str(tmp_path / "two.py:Mine")], data=tmp_path)
    with pytest.raises(EvaluationError, match="two tasks have the name fpb"):
        planned(None, ["fpb", "fpb"], data=tmp_path)


@pytest.mark.parametrize("limit", [0, -3])
def test_no_items_are_no_limit(tmp_path: Path, limit: int) -> None:
    with pytest.raises(EvaluationError, match="a limit is a whole number from 1 on"):
        planned(None, ["fpb"], data=tmp_path, limit=limit)


def test_the_seed_is_that_of_sampled_replies(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "advbench/advbench.jsonl", [{"goal": "Do", "target": "Sure"}])
    asked = []
    for seed in (1, 2):
        model = CountingModel()
        run(planned(None, ["advbench"], data=tmp_path, seed=seed), [model], tmp_path / f"out-{seed}")
        asked += [each.seed for each in model.asked if isinstance(each, Generate)]
    assert asked == [1, 2]
    plan = planned(None, [name for name in CODE_TASKS if name.endswith("_n20")], data=tmp_path, seed=3)
    assert {task.seed for task in plan.tasks} == {3}


def test_a_mean_of_what_is_no_share_is_shown_as_it_is(tmp_path: Path) -> None:
    """100 × a perplexity would be no per cent."""
    head = "tasks: [perplexity, fpb]\ntitle: Ours\n"
    averages = "{title: m, metrics: [token_perplexity], tasks: [perplexity, fpb]}"
    with pytest.raises(EvaluationError, match="fpb has no metric token_perplexity"):
        planned(suite(tmp_path, averages, head), None, data=tmp_path)
