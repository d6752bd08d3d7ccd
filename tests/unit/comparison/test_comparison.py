"""A comparison's file, its methods, its scores and its table."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agent.data.checks.notices import Occurrences
from agent.data.source import DataSource
from agent.orders.on_base.score import Completed
from fedloom.comparison.baselines import Baselines
from fedloom.comparison.criterion import Measure, criterion_of
from fedloom.comparison.planning import points
from fedloom.comparison.planning.grid import GridSection
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind, clients_drawn, methods
from fedloom.comparison.results import MethodResult, Results, Tried
from fedloom.comparison.rows import Rows, training_rows
from fedloom.comparison.scoring import macro_f1
from fedloom.comparison.showing.csv_file import write_results
from fedloom.comparison.showing.report import as_json, below_table, table
from fedloom.comparison.showing.verdict import best, caption, finding, leaders
from fedloom.comparison.spec import ScoreSection, read_comparison
from fedloom.errors import ComparisonError
from shared.campaign.file import CampaignFileError
from shared.campaign.spec import CampaignSpec

FIELDS = MappingProxyType(
    {
        "name": "c",
        "base": {"model": "org/tiny"},
        "training": {"steps": 4, "batch_size": 8, "learning_rate": 2e-3, "min_learning_rate": 2e-4, "seed": 5},
        "data": {"name": "rows"},
        "rounds": 6,
        "selection": {"clients_per_round": 2, "minimum": 2},
    }
)
SPEC = CampaignSpec.model_validate(FIELDS)
HYPERPARAMETERS = Hyperparameters(4e-3)


def grid_points(method: Method, spec: CampaignSpec, grid: GridSection) -> list[Hyperparameters]:
    return list(points.grid_points(method, spec, grid))


def by_name(**changes: Any) -> dict[str, Method]:
    spec = CampaignSpec.model_validate({**FIELDS, **changes})
    return {method.name: method for method in methods(["fedavg", "fedadam"], spec, 4, Baselines.ALL)}


# --- the file


def test_a_comparison_file_names_its_files_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: x\nclients: 3\nvalidation: v.jsonl\ntest: data/t.jsonl\n")
    spec = read_comparison(tmp_path / "c.yaml")
    assert spec.campaign == tmp_path / "campaign.yaml"
    assert spec.test == tmp_path / "data" / "t.jsonl"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "name: x\nclients: 1\nvalidation: v\ntest: t\n",
            "line 2: clients: Input should be greater than or equal to 2",
        ),
        ("name: x\nclients: 3\nvalidation: v\n", "test: this field is needed"),
        (
            "name: x\nclients: 3\nvalidation: v\ntest: t\ngird: {}\n",
            "line 5: gird: unknown field; did you mean",
        ),
        ("name: x\nclients: 3\nvalidation: v\ntest: t\nscore: {measure: f1}\n", "line 5: score.measure"),
        ("name: x\nclients: 3\nvalidation: v\ntest: t\npartition: {kind: key}\n", "needs a column of the data: --by"),
        ("name: x\nclients: 3\nvalidation: v\ntest: t\ngrid: {learning_rate: [0.1, -1]}\n", "line 5"),
    ],
)
def test_an_error_in_the_file_names_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(CampaignFileError) as caught:
        read_comparison(tmp_path / "c.yaml")
    assert says in str(caught.value)


# --- methods


def test_the_table_has_the_base_the_algorithms_each_client_and_two_pools() -> None:
    assert list(by_name()) == [
        "base model",
        "fedavg",
        "fedadam",
        "client-00 alone",
        "client-01 alone",
        "client-02 alone",
        "client-03 alone",
        "pooled, batch ×2",
        "pooled, steps ×2",
    ]
    assert [method.name for method in methods(["fedavg"], SPEC, 4, Baselines.NONE)] == ["base model", "fedavg"]
    for baselines, n_more in ((Baselines.ALONE, 4), (Baselines.POOLED, 2)):
        assert len(list(methods(["fedavg"], SPEC, 4, baselines))) == 2 + n_more


def test_a_client_alone_trains_in_as_many_rounds_as_it_was_drawn_for() -> None:
    drawn = clients_drawn(SPEC, 5, 4)
    assert len(drawn) == 6 * 2
    named = by_name()
    for number in range(4):
        campaign = named[f"client-0{number} alone"].campaign(SPEC, HYPERPARAMETERS, 5, 4)
        assert (campaign.rounds if campaign else 0) == drawn.count(number)


def test_every_method_takes_equal_steps_and_a_pool_sees_as_many_rows_as_the_federation() -> None:
    named = by_name()
    campaigns = {name: method.campaign(SPEC, HYPERPARAMETERS, 5, 4) for name, method in named.items()}
    assert campaigns["base model"] is None
    federation, batch, steps = (campaigns[name] for name in ("fedavg", "pooled, batch ×2", "pooled, steps ×2"))
    assert federation is not None
    assert batch is not None
    assert steps is not None
    assert (federation.training.steps, batch.training.steps, steps.training.steps) == (4, 4, 8)
    assert batch.rounds == federation.rounds
    for pooled in (batch, steps):
        assert pooled.training.steps is not None
        assert pooled.training.steps * pooled.training.batch_size == 4 * 8 * 2
        assert (pooled.selection.minimum, pooled.selection.clients_per_round) == (1, "all")
    assert CampaignSpec.model_validate(batch.model_dump()) == batch


def test_hyperparameters_and_seed_reach_the_campaign_and_the_minimum_keeps_its_proportion() -> None:
    hyperparameters = Hyperparameters(4e-3, (("eta", 0.01),))
    campaign = by_name()["fedadam"].campaign(SPEC, hyperparameters, 7, 4)
    assert campaign is not None
    assert (campaign.training.learning_rate, campaign.training.seed) == (4e-3, 7)
    assert campaign.training.min_learning_rate == pytest.approx(4e-4)
    assert campaign.algorithm.params == {"eta": 0.01}
    assert (str(hyperparameters), hyperparameters.folder_name) == ("lr 0.004, eta 0.01", "lr0.004-eta0.01")


def test_the_grid_tries_every_combination_that_a_method_has() -> None:
    named, grid = by_name(), GridSection(learning_rate=[1e-3, 2e-3], params={"eta": [0.1, 0.2, 0.3], "mu": [1.0]})
    assert len(grid_points(named["fedadam"], SPEC, grid)) == 6
    assert grid_points(named["fedavg"], SPEC, grid) == [Hyperparameters(1e-3), Hyperparameters(2e-3)]
    assert len(grid_points(named["base model"], SPEC, grid)) == 1
    assert grid_points(named["fedavg"], SPEC, GridSection()) == [Hyperparameters(2e-3)]
    assert len(grid_points(named["fedadam"], SPEC, GridSection())) == 3, "three server hyperparameters at least"


def test_a_grid_may_name_one_algorithm_alone() -> None:
    grid = GridSection(params={"eta": [0.1, 0.2], "fedadam.eta": [0.3], "fedyogi.beta1": [0.5]})
    assert grid_points(by_name()["fedadam"], SPEC, grid) == [Hyperparameters(2e-3, (("eta", 0.3),))]
    yogi = Method("fedyogi", MethodKind.ALGORITHM, algorithm="fedyogi")
    assert [dict(hyperparameters.params) for hyperparameters in grid_points(yogi, SPEC, grid)] == [
        {"beta1": 0.5, "eta": 0.1},
        {"beta1": 0.5, "eta": 0.2},
    ]


# --- scores


def test_macro_f1_by_hand() -> None:
    true = ["a", "a", "a", "b", "b", "c"]
    predicted = ["a", "a", "b", "b", "d", "d"]
    # a: 2·2/(4+0+1); b: 2·1/(2+1+1); c: 0
    assert macro_f1(true, predicted) == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)
    assert macro_f1(["a"], ["a"]) == 1.0


def test_choices_are_the_completions_of_the_file_and_not_too_many(tmp_path: Path) -> None:
    source, choice = DataSource(path=tmp_path, prompt="q", completion="a"), ScoreSection(measure="choice")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": "one", "a": "yes"}\n{"q": "two", "a": "no"}\n{"q": "three", "a": "yes"}\n')
    assert Rows.read(file, source, choice).choices == ["no", "yes"]
    assert Rows.read(file, source, ScoreSection()).choices == []
    file.write_text("".join(f'{{"q": "one", "a": "{n}"}}\n' for n in range(21)))
    with pytest.raises(ComparisonError, match="21 different completions are too many"):
        Rows.read(file, source, choice)


@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("measure", ["exact", "choice"])
def test_a_measure_that_one_completion_makes_useless_is_refused(tmp_path: Path, measure: Measure, n_rows: int) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"q": "number {n}", "a": "yes{" " * n}"}}\n' for n in range(n_rows)))
    source = DataSource(path=file, prompt="q", completion="a")
    with pytest.raises(
        ComparisonError, match=r"rows.jsonl: .*completion, so .*; add rows .* or set score.measure to loss"
    ):
        Rows.read(file, source, ScoreSection(measure=measure))
    assert len(Rows.read(file, source, ScoreSection()).rows) == n_rows, "a loss differs between methods on any row"


def test_choices_that_differ_only_in_spaces_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": "one", "a": "yes"}\n{"q": "two", "a": "no"}\n{"q": "three", "a": "yes "}\n')
    source = DataSource(path=file, prompt="q", completion="a")
    with pytest.raises(ComparisonError, match="differ only in spaces"):
        Rows.read(file, source, ScoreSection(measure="choice"))
    assert len(Rows.read(file, source, ScoreSection(measure="exact")).rows) == 3


def test_choices_that_no_method_can_learn_are_named_and_refused_if_all_are(tmp_path: Path) -> None:
    file, taught = tmp_path / "rows.jsonl", tmp_path / "training.jsonl"
    file.write_text('{"q": "one", "a": "yes"}\n{"q": "two", "a": "no"}\n')
    source = DataSource(path=taught, prompt="q", completion="a")
    rows = Rows.read(file, source, ScoreSection(measure="choice"))
    taught.write_text('{"q": "three", "a": "yes"}\n{"q": "four", "a": "perhaps"}\n{"other": 1}\n')
    assert rows.notes(training_rows(source, Occurrences())) == [
        "rows.jsonl: no training row has the completion 'no', which no method can learn"
    ]
    taught.write_text('{"q": "three", "a": "Yes"}\n{"q": "four", "a": "No"}\n')
    with pytest.raises(ComparisonError, match="none of the 2 completions to choose from is in the training data"):
        rows.notes(training_rows(source, Occurrences()))


def test_what_is_not_read_of_the_files_to_score_on_is_a_note(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('prompt,completion\nsay it, "a"\n')
    rows = Rows.read(file, DataSource(path=file), ScoreSection())
    [note] = rows.notes([])
    assert note.startswith("rows.csv: line 2 has a blank before a quote")


def test_test_rows_that_are_trained_on_are_counted(tmp_path: Path) -> None:
    file, taught = tmp_path / "rows.jsonl", tmp_path / "training.jsonl"
    file.write_text('{"q": "one", "a": "yes"}\n{"q": "two", "a": "no"}\n{"q": "two", "c": "of all", "a": "no"}\n')
    taught.write_text('{"q": "one", "a": "no"}\n{"q": "two", "a": "no"}\n')
    source = DataSource(path=taught, prompt="q", input="c", completion="a")
    rows = Rows.read(file, source, ScoreSection())
    assert rows.notes(training_rows(source, Occurrences())) == ["rows.jsonl: 1 of 3 rows are in the training data too"]
    assert rows.shared_with(rows.rows) == rows.rows


@pytest.mark.parametrize(
    "line", ['{"q": "secret"}', '{"q": "secret", "a": ""}', '{"q": "secret", "a": " "}', '{"q": "secret", "a": 3}']
)
def test_a_row_without_its_columns_is_reported_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": "one", "a": "yes"}\n' + line)
    with pytest.raises(
        ComparisonError, match=r"rows.jsonl, line 2: the column 'a' \(completion\) must hold a text"
    ) as caught:
        Rows.read(file, DataSource(path=file, prompt="q", completion="a"), ScoreSection())
    assert "secret" not in str(caught.value)


def test_numbers_are_scored_as_the_file_spells_them_and_system_prompts_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": 1.50, "a": 3, "more": null}\n')
    source = DataSource(path=file, prompt="q", completion="a", input="more", numbers=True)
    assert Rows.read(file, source, ScoreSection()).rows == [Completed(prompt="1.50", input="", completion="3")]
    file.write_text('{"q": "one", "a": "yes", "system": "Be brief."}\n')
    with pytest.raises(ComparisonError, match="line 1: the system prompt in the column 'system' is not scored; remove"):
        Rows.read(file, source, ScoreSection())
    file.write_text('{"q": "one", "a": "yes", "history": []}\n{"q": "one", "a": "yes", "history": [["q", "a"]]}\n')
    with pytest.raises(
        ComparisonError, match="line 2: the earlier turns in the column 'history' are not scored; remov"
    ):
        Rows.read(file, source, ScoreSection())


# --- results


def result(name: str, kind: MethodKind, *accuracies: float) -> MethodResult:
    scores = {seed: {"accuracy": value} for seed, value in enumerate(accuracies, start=1)}
    return MethodResult(Method(name, kind), HYPERPARAMETERS, {HYPERPARAMETERS: Tried({"accuracy": 0.5})}, scores)


def printed(results: Results) -> str:
    console = Console(width=80, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table(results))
    return captured.get()


RESULTS = Results(
    "r",
    criterion_of("exact"),
    [1, 2, 3],
    [
        result("base model", MethodKind.BASE, 0.1, 0.1, 0.1),
        result("fedavg", MethodKind.ALGORITHM, 0.5, 0.6, 0.7),
        result("fedadam", MethodKind.ALGORITHM, 0.2, 0.2, 0.2),
        result("client-00 alone", MethodKind.ALONE, 0.3, 0.3, 0.3),
        result("client-01 alone", MethodKind.ALONE, 0.1, 0.2, 0.3),
        result("pooled", MethodKind.POOLED, 0.9, 0.9, 0.9),
    ],
)


def test_rows_have_means_spreads_and_the_clients_mean() -> None:
    rows = {row.name: row for row in RESULTS.rows()}
    assert list(rows)[5] == "mean of clients alone"
    assert rows["fedavg"].mean("accuracy") == pytest.approx(0.6)
    assert rows["fedavg"].spread("accuracy") == pytest.approx(np.std([0.5, 0.6, 0.7], ddof=1))
    assert rows["mean of clients alone"].scores["accuracy"] == pytest.approx([0.2, 0.25, 0.3])
    leader = best(RESULTS)
    assert leader is not None
    assert leader.name == "fedavg", "the best algorithm, not the pool"
    assert as_json(RESULTS)["best"] == "fedavg"
    assert below_table(RESULTS) == "mean ± standard deviation over seeds 1, 2, 3; ★ best algorithm"


def test_the_finding_counts_the_algorithms_above_the_best_client_alone() -> None:
    assert finding(RESULTS) == "1 of 2 algorithms beat the best client alone (client-00 alone, 30.0); not fedadam"
    by_loss = Results("r", criterion_of("loss"), [1], [])
    assert finding(by_loss) == ""


def test_by_loss_the_lower_one_is_better() -> None:
    def at(name: str, kind: MethodKind, loss: float) -> MethodResult:
        return MethodResult(Method(name, kind), HYPERPARAMETERS, {}, {1: {"loss": loss}})

    results = Results(
        "r",
        criterion_of("loss"),
        [1],
        [at("a", MethodKind.ALGORITHM, 1.5), at("b", MethodKind.ALGORITHM, 1.0), at("c", MethodKind.ALONE, 1.2)],
    )
    leader = best(results)
    assert leader is not None
    assert leader.name == "b"
    assert finding(results) == "1 of 2 algorithms beat the best client alone (c, 1.200); not a"


def test_a_method_without_all_its_seeds_has_failed_and_has_no_mean() -> None:
    short = result("fedyogi", MethodKind.ALGORITHM, 0.9, 0.9)
    results = Results("r", criterion_of("exact"), [1, 2, 3], [*RESULTS.methods, short])
    row = next(row for row in results.rows() if row.name == "fedyogi")
    assert row.mean("accuracy") is None
    text = printed(results)
    assert "fedyogi" in text
    assert "failed" in text
    assert "fedavg ★" in text
    assert "60.0 ± 10.0" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_csv_has_every_score_with_its_split(tmp_path: Path) -> None:
    write_results(RESULTS, tmp_path / "r.csv")
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert (
        lines[0] == "method,kind,learning_rate,params,fields,seed,split,metric,value,task,n,n_asked,n_published,not_run"
    )
    assert "fedavg,algorithm,0.004,,,1,validation,accuracy,0.5,,,,," in lines
    assert "fedavg,algorithm,0.004,,,3,test,accuracy,0.7,,,,," in lines
    assert len(lines) == 1 + 6 * 4


# --- ties


def scored(measure: Measure, **means: float) -> Results:
    """Results of one seed. An algorithm, or a client alone if its name begins with "client"."""
    metric = "loss" if measure == "loss" else "accuracy"
    found = []
    for name, mean in means.items():
        kind = MethodKind.ALONE if name.startswith("client") else MethodKind.ALGORITHM
        kind = MethodKind.BASE if name == "base" else kind
        found.append(MethodResult(Method(name, kind), HYPERPARAMETERS, {}, {1: {metric: mean}}))
    return Results("r", criterion_of(measure), [1], found)


@pytest.mark.parametrize(
    ("measure", "means", "says"),
    [
        (
            "choice",
            {"base": 1.0, "fedavg": 1.0, "fedadam": 1.0},
            "no best algorithm: every method has 100.0, so the test rows do not tell them apart",
        ),
        ("exact", {"base": 0.1, "a": 0.5, "b": 0.5, "c": 0.2}, "no best algorithm: a and b share 50.0"),
        ("loss", {"base": 2.0, "a": 0.5001, "b": 0.5002, "c": 0.5}, "no best algorithm: a, b and c share 0.500"),
        ("exact", {"base": 0.0, "a": 0.0}, "no best algorithm: every method has 0.0"),
    ],
)
def test_no_algorithm_is_the_best_on_a_tie(measure: Measure, means: dict[str, float], says: str) -> None:
    results = scored(measure, **means)
    assert best(results) is None
    assert "★" not in printed(results)
    assert caption(results).startswith(says)
    assert as_json(results)["best"] is None
    assert as_json(results)["leaders"] == [row.name for row in leaders(results)]


def test_without_scores_nothing_is_claimed() -> None:
    results = Results("r", criterion_of("loss"), [1], [MethodResult(Method("a", MethodKind.ALGORITHM))])
    assert caption(results) == ""
    assert best(results) is None
    assert "★" not in printed(results)


def test_clients_that_share_the_best_value_are_all_named_and_a_score_of_zero_counts() -> None:
    results = scored("exact", fedavg=0.0, fedadam=0.3, **{"client-00": 0.3, "client-01": 0.3, "client-02": 0.0})
    assert finding(results) == (
        "0 of 2 algorithms beat the best clients alone (client-00 and client-01, 30.0); not fedavg, fedadam"
    )
    results = scored("exact", fedavg=0.1, **{"client-00": 0.0, "client-01": 0.0})
    assert finding(results) == "1 of 1 algorithms beat the best clients alone (client-00 and client-01, 0.0)"
