"""What hyperparameters are chosen and rows ranked by: metrics by name, items of tasks in halves, values by hand."""

import csv
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from agent.data.source import DataSource
from fedloom.comparison.choosing import chosen
from fedloom.comparison.criterion import Criterion, criterion_on_rows
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind
from fedloom.comparison.results import MethodResult, Results
from fedloom.comparison.running.trial import Trial
from fedloom.comparison.running.trial_scores import TaskNumbers, Training, TrialScores
from fedloom.comparison.showing.csv_file import write_results
from fedloom.comparison.showing.remarks import remarks
from fedloom.comparison.showing.report import as_json, below_table, table, tried_table
from fedloom.comparison.spec import read_comparison
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.comparison.tasks.items import Halves
from fedloom.comparison.tasks.plan import AskedTasks, asked_tasks, criterion_in, plan_of
from fedloom.comparison.tasks.scores import TaskScore
from fedloom.comparison.tasks.section import TasksSection
from fedloom.errors import ComparisonError, EvaluationError, FieldError, TrialFailed
from fedloom.evaluation.tasks.base import Item
from shared.campaign.file import CampaignFileError
from tests.support.published.code import write
from tests.support.stand_in_models import saying

FEDAVG = Method("fedavg", MethodKind.ALGORITHM)
RATES = [Hyperparameters(rate) for rate in (1e-3, 2e-3, 3e-3)]


def ended(result: TrialScores | Exception) -> "Future[TrialScores]":
    future: Future[TrialScores] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def on_rows(*values: dict[str, float] | str) -> dict[Hyperparameters, "Future[TrialScores]"]:
    """Trials by rate: scores on the validation rows, or why one failed."""
    results = [
        TrialFailed("t", each) if isinstance(each, str) else TrialScores({"validation": each}) for each in values
    ]
    return dict(zip(RATES, map(ended, results), strict=False))


# --- the choice


def test_the_lowest_loss_and_the_highest_share_are_chosen_and_the_first_of_equals() -> None:
    both = on_rows({"loss": 2.0, "accuracy": 0.5}, {"loss": 1.0, "accuracy": 0.25}, {"loss": 1.0, "accuracy": 0.75})
    assert chosen(FEDAVG, both, criterion_on_rows("loss"), "validation").hyperparameters == RATES[1]
    assert chosen(FEDAVG, both, criterion_on_rows("accuracy"), "validation").hyperparameters == RATES[2]


def test_what_diverges_is_not_chosen_and_stays_visible() -> None:
    found = chosen(FEDAVG, on_rows("diverged", {"loss": 3.0}), criterion_on_rows("loss"), "validation")
    assert (found.hyperparameters, found.failures) == (RATES[1], [])
    assert [each.failure for each in found.tried.values()] == ["t: diverged", ""]
    none = chosen(FEDAVG, on_rows("diverged", "diverged too"), criterion_on_rows("loss"), "validation")
    assert (none.hyperparameters, none.failures) == (None, ["t: diverged", "t: diverged too"])


def test_a_single_choice_needs_no_score() -> None:
    alone = {RATES[0]: ended(TrialScores())}
    assert chosen(FEDAVG, alone, criterion_on_rows("loss"), "validation").hyperparameters == RATES[0]


def of_task(value: float | None, *, lower_is_better: bool = False, not_run: str = "") -> TrialScores:
    score = TaskScore("house", "acc", value, 4, 4, 9, is_share=True, lower_is_better=lower_is_better, not_run=not_run)
    return TrialScores({}, {"choosing": TaskNumbers({}, [score])})


def test_a_metric_of_a_task_chooses_and_a_task_without_a_value_cannot_be_chosen() -> None:
    tried = dict(
        zip(RATES, map(ended, [of_task(0.5), of_task(0.75), of_task(None, not_run="no sandbox")]), strict=True)
    )
    by = Criterion("house.acc", tasks=("house",))
    found = chosen(FEDAVG, tried, by, "choosing")
    assert found.hyperparameters == RATES[1]
    assert found.tried[RATES[2]].failure == "fedavg, lr 0.003: no house.acc: no sandbox"
    found = chosen(FEDAVG, tried, Criterion("house.acc", lower_is_better=True, tasks=("house",)), "choosing")
    assert found.hyperparameters == RATES[0]


# --- names of metrics

FILE = "name: x\nclients: 3\nvalidation: v\ntest: t\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FILE + "choose: accuracy\n", "line 5: choose: accuracy needs score.measure exact or choice"),
        (FILE + "rank: macro_f1\nscore: {measure: exact}\n", "line 5: rank: macro_f1 needs score.measure choice"),
        ("name: x\nclients: 3\ntest: t\nchoose: loss\n", "validation: this field is needed, unless choose names"),
        (
            "name: x\nclients: 3\nvalidation: v\nrank: loss\nevaluation: {suite: finance}\n",
            "line 4: rank: loss is measured on test rows; give test, or a metric of evaluation",
        ),
        (FILE + "choose: [loss]\n", "line 5: choose: Input should be a valid string"),
    ],
)
def test_a_metric_on_rows_needs_its_rows_and_its_measure(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(CampaignFileError) as caught:
        read_comparison(tmp_path / "c.yaml")
    assert says in str(caught.value)


def test_the_loss_is_measured_beside_another_measure_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(FILE + "choose: loss\nrank: accuracy\nscore: {measure: choice}\n")
    assert read_comparison(tmp_path / "c.yaml").measures == ["choice", "loss"]
    (tmp_path / "c.yaml").write_text(FILE + "choose: fpb.acc\nscore: {measure: choice}\n")
    assert read_comparison(tmp_path / "c.yaml").measures == ["choice"]


# --- items of tasks

ROWS = [{"prompt": f"Where does the ship number {n} of the line go?", "completion": f"To port {n}."} for n in range(9)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with data of rows of one's own."""
    write(tmp_path / "data", "rows/test.jsonl", ROWS)
    (tmp_path / "training.jsonl").write_text('{"prompt": "Why?", "completion": "So."}\n')
    return tmp_path


def asked(folder: Path, choose: str, *, rank: str = "", limit: int | None = None, **section: Any) -> AskedTasks:
    named = TasksSection.model_validate({"data": folder / "data", "limit": limit, **section})
    plan = plan_of(named, DataSource(path=folder / "training.jsonl"))
    return asked_tasks(plan, criterion_in(plan, "choose", choose), criterion_in(plan, "rank", rank) if rank else None)


def ids(folder: Path, evaluation: TaskEvaluation) -> set[str]:
    """The ids of the items that a model is asked."""
    evaluation.scores(saying("To port 1."), folder, lambda: None)
    found = json.loads((folder / "results.json").read_text())
    return {item for task in found["tasks"] for item in task["items"]}


@pytest.mark.parametrize("limits", [(None, None), (2, 2), (1, None), (None, 1)])
def test_no_item_is_for_choosing_and_in_the_table_whatever_the_limits(
    folder: Path, limits: tuple[int | None, int | None]
) -> None:
    before, after = (asked(folder, "rows.rouge_l", limit=limit, tasks=["rows"]) for limit in limits)
    assert before.choosing is not None
    of_choice, of_table = ids(folder / "one", before.choosing), ids(folder / "two", after.table)
    assert of_choice
    assert of_table
    assert not of_choice & of_table
    if limits == (None, None):
        assert (len(of_choice), len(of_table)) == (4, 5)
        assert before.notes == ["rows: 4 items are for choosing, and 5 others for the table"]


def test_a_variant_of_the_task_lacks_the_items_too(folder: Path) -> None:
    found = asked(folder, "rows.exact", tasks=["rows", "rows_chat"])
    assert found.choosing is not None
    assert found.choosing.n_items == {"rows": 4}
    assert found.table.n_items == {"rows": 5, "rows_chat": 5}
    assert found.notes[1:] == ["rows_chat: 4 of its items are for choosing, and left out of the table"]


def test_items_that_occur_twice_are_not_in_both_halves() -> None:
    items = [Item(str(n), "", {"text": n // 2}) for n in range(8)]
    halves = Halves(0)
    half = halves.for_choosing("t", items)
    others = halves.for_table("t", items)
    assert not {item.content["text"] for item in half} & {item.content["text"] for item in others}
    assert halves.left_out == {"t": 8 - len(others)}


def test_a_trial_is_asked_for_choosing_and_for_the_table_apart(folder: Path) -> None:
    found = asked(folder, "rows.exact", tasks=["rows"])
    assert found.choosing is not None
    trial = Trial(Method("base model", MethodKind.BASE), RATES[0], 1, folder / "trial", None)
    model = saying("To port 1.")
    scorer: Any = SimpleNamespace(model=lambda _name, _adapter: model, metrics=frozenset())
    parts = {"choosing": found.choosing, "evaluation": found.table}
    scores = trial.run(scorer, {}, parts, threading.Event(), lambda _: None)
    n = {part: numbers.scores[0].n for part, numbers in scores.tasks.items()}
    assert n == {"choosing": 4, "evaluation": 5}
    n_asked = len(model.asked)
    assert n_asked == len(ROWS)
    assert trial.run(scorer, {}, parts, threading.Event(), lambda _: None) == scores
    assert len(model.asked) == n_asked, "what is stored is not asked again"


@pytest.mark.parametrize(
    ("choose", "says"),
    [
        ("rows.exat", "choose: rows.exat is no metric on rows (loss, accuracy, macro_f1), and no task has it; did you"),
        ("perplexity", "; metrics of tasks are rows."),
        ("fpb.acc", "choose: fpb.acc needs what is not here: fpb: not run: put fpb/"),
    ],
)
def test_what_cannot_choose_is_refused_in_words(folder: Path, choose: str, says: str) -> None:
    with pytest.raises(FieldError) as caught:
        asked(folder, choose, tasks=["rows", "fpb"])
    assert says in str(caught.value)


def test_a_task_that_cannot_run_ranks_nothing(folder: Path) -> None:
    with pytest.raises(FieldError, match=r"rank: fpb.acc needs what is not here: fpb: not run: put fpb/"):
        asked(folder, "rows.exact", rank="fpb.acc", tasks=["rows", "fpb"])


def test_one_item_cannot_be_halved(folder: Path) -> None:
    write(folder / "data", "rows/test.jsonl", ROWS[:1])
    with pytest.raises(
        FieldError, match=r"rows: not run: it has 1 item, and choosing needs other items than the table"
    ):
        asked(folder, "rows.exact", tasks=["rows"])


# --- several suites

HOUSE = "title: House\ntasks: [{tasks}]\naverages:\n  - {{title: {title}, metrics: [exact], tasks: [{tasks}]}}\n"


def suite(folder: Path, name: str, title: str, *tasks: str) -> str:
    (folder / name).write_text(HOUSE.format(title=title, tasks=", ".join(tasks)))
    return str(folder / name)


def test_a_task_of_two_suites_runs_once_and_each_suite_has_its_means(folder: Path) -> None:
    suites = [suite(folder, "a.yaml", "ours", "rows", "rows_chat"), suite(folder, "b.yaml", "all", "rows_chat", "rows")]
    plan = plan_of(
        TasksSection(suite=suites, tasks=["rows", "perplexity"], data=folder / "data"),
        DataSource(path=folder / "training.jsonl"),
    )
    assert [task.name for task in plan.tasks] == ["rows", "rows_chat", "perplexity"]
    assert [mean.name for mean in plan.averages] == ["ours_exact", "all_exact"]
    assert criterion_in(plan, "choose", "all_exact").tasks == ("rows_chat", "rows")


def test_two_means_of_one_name_over_other_tasks_are_refused(folder: Path) -> None:
    same = suite(folder, "a.yaml", "ours", "rows", "rows_chat"), suite(folder, "b.yaml", "ours", "rows_chat", "rows")
    source = DataSource(path=folder / "training.jsonl")
    with pytest.raises(EvaluationError, match="two means over tasks have the name ours_exact"):
        plan_of(TasksSection(suite=list(same), data=folder / "data"), source)


def test_a_mean_may_not_have_the_name_of_a_metric_on_rows(folder: Path) -> None:
    (folder / "a.py").write_text(
        "from fedloom.evaluation.tasks.own.instruction_rows import InstructionRows\n"
        "from fedloom.evaluation.tasks.base import TaskMetric\n"
        "class One(InstructionRows):\n"
        "    metrics = [TaskMetric('f1', 'F1', 'rule')]\n"
        "    def __init__(self): super().__init__(False); self.name = 'one'\n"
        "class Two(One):\n"
        "    def __init__(self): super().__init__(); self.name = 'two'\n"
    )
    averages = "averages: [{title: macro, metrics: [f1], tasks: [one, two]}]\n"
    (folder / "s.yaml").write_text(f"title: S\ntasks: ['a.py:One', 'a.py:Two']\n{averages}")
    with pytest.raises(ComparisonError, match="the mean macro_f1 has the name of a metric on rows"):
        plan_of(
            TasksSection(suite=str(folder / "s.yaml"), data=folder / "data"), DataSource(path=folder / "training.jsonl")
        )


# --- what a reader sees


def results(*methods: MethodResult, **more: Any) -> Results:
    return Results("r", criterion_on_rows("accuracy"), [1], list(methods), **more)


def printed(*tables: Any) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        console.print(*tables)
    return captured.get()


POINTS = [Hyperparameters(1e-3, (("eta", 0.1),), (("lora.rank", text),)) for text in ("4", "8", "16")]


def with_tried() -> Results:
    tried = dict(zip(POINTS, on_rows({"loss": 2.0}, {"loss": 1.5}, "diverged").values(), strict=True))
    by = criterion_on_rows("loss", "the validation rows")
    method = chosen(FEDAVG, tried, by, "validation")
    method.scores[1] = {"accuracy": 0.5}
    return results(method, chosen_by=by)


def test_all_that_was_tried_is_visible(tmp_path: Path) -> None:
    found = with_tried()
    lines = [line.split("  ") for line in printed(tried_table(found)).splitlines()]
    told = [[part.strip() for part in line if part.strip()] for line in lines]
    assert told == [
        ["TRIED", "HYPERPARAMETERS", "LOSS"],
        ["fedavg", "lr 0.001, eta 0.1, rank 4", "2.000"],
        ["fedavg", "lr 0.001, eta 0.1, rank 8", "1.500", "chosen"],
        ["fedavg", "lr 0.001, eta 0.1, rank 16", "failed"],
    ]
    assert below_table(found).endswith("hyperparameters chosen among 3 by loss on the validation rows (--tried)")
    document = as_json(found)
    assert document["chosen_by"] == "loss"
    assert document["rows"][0]["hyperparameters"] == {
        "learning_rate": 1e-3,
        "params": {"eta": 0.1},
        "fields": {"lora.rank": 8},
    }
    assert [(each["fields"], each["scores"], each["is_chosen"], each["failure"]) for each in document["tried"]] == [
        ({"lora.rank": 4}, {"loss": 2.0}, False, None),
        ({"lora.rank": 8}, {"loss": 1.5}, True, None),
        ({"lora.rank": 16}, {}, False, "t: diverged"),
    ]
    write_results(found, tmp_path / "r.csv")
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [(row["fields"], row["split"], row["metric"], row["value"], row["not_run"]) for row in rows] == [
        ("lora.rank=4", "validation", "loss", "2.0", ""),
        ("lora.rank=8", "validation", "loss", "1.5", ""),
        ("lora.rank=16", "validation", "loss", "", "t: diverged"),
        ("lora.rank=8", "test", "accuracy", "0.5", ""),
    ]


def ranked(name: str, kind: MethodKind, accuracy: float | None) -> MethodResult:
    found = MethodResult(Method(name, kind), RATES[0])
    if accuracy is not None:
        found.scores[1] = {"accuracy": accuracy}
    return found


def test_a_table_with_a_rank_has_the_best_row_first() -> None:
    methods = [
        ranked("base model", MethodKind.BASE, 0.25),
        ranked("broken", MethodKind.ALGORITHM, None),
        ranked("fedavg", MethodKind.ALGORITHM, 0.5),
        ranked("client-00 alone", MethodKind.ALONE, 0.75),
        ranked("client-01 alone", MethodKind.ALONE, 0.0),
    ]
    order = [row.name for row in results(*methods, is_ordered=True).rows()]
    assert order == [
        "client-00 alone",
        "fedavg",
        "mean of clients alone",
        "base model",
        "client-01 alone",
        "broken",
    ]
    assert "fedavg ★" in printed(table(results(*methods, is_ordered=True)))
    assert next(iter(results(*methods).rows())).name == "base model"


def trained(name: str, fields: Sequence[tuple[str, str]], **by_seed: Training) -> MethodResult:
    found = MethodResult(Method(name, MethodKind.ALGORITHM), Hyperparameters(1e-3, (), tuple(fields)))
    found.training = {int(seed[1:]): each for seed, each in by_seed.items()}
    return found


OWN = {"rounds": 4, "training.steps": 6, "training.batch_size": 8, "selection.clients_per_round": 2}
"""The campaign's own values."""


def test_unequal_amounts_of_training_are_told() -> None:
    equal = [trained(name, [("rounds", "4"), ("lora.rank", str(n))]) for n, name in enumerate(("a", "b"), 1)]
    assert list(remarks(equal, OWN)) == []
    assert list(remarks([*equal, trained("c", [("rounds", "8"), ("training.steps", "2")])], OWN)) == [
        "not all methods trained equally much, by what was chosen for them: "
        "rounds 4, training.steps 6: a, b; rounds 8, training.steps 2: c"
    ]


def test_more_clients_a_round_than_baselines_stand_for_are_told() -> None:
    pooled = trained("pooled, steps ×2", [])
    one, more = (trained(f"fed{n}", [("selection.clients_per_round", str(n))]) for n in (2, 4))
    assert list(remarks([pooled, one], OWN)) == []
    assert list(remarks([pooled, one, more], OWN)) == [
        "not all methods trained equally much, by what was chosen for them: "
        "selection.clients_per_round 2: pooled, steps ×2, fed2; selection.clients_per_round 4: fed4"
    ]


def test_what_stopped_early_is_told_by_method_and_seed() -> None:
    early = trained("a", [], s1=Training(10, 4, 2), s2=Training(10, 10, 10), s3=Training(10, 6, 6))
    best = trained("b", [], s1=Training(10, 10, 7), s2=Training(10, 10, 10))
    assert list(remarks([early, best], OWN)) == [
        "a stopped early: seed 1 after round 4 of 10, adapter 2 scored; seed 3 after round 6 of 10, adapter 6 scored",
        "the best adapter, and not the last one, is scored of b, seed 1: adapter 7 of 10",
    ]
    [row] = as_json(results(early))["rows"]
    assert row["training"][0] == {"seed": 1, "rounds": 10, "rounds_closed": 4, "adapter": 2}
