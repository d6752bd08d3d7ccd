"""Values of campaign fields in a grid: the points of each method, what is refused, and the folder of each trial."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from agent.configuration.open_policy import OPEN_POLICY
from agent.configuration.settings import AgentSettings
from fedloom.comparison.baselines import Baselines
from fedloom.comparison.planning.checks import checked_grid
from fedloom.comparison.planning.grid import GridSection
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, methods
from fedloom.comparison.planning.points import count_points, grid_points
from fedloom.comparison.planning.trials import Trials
from fedloom.comparison.spec import ComparisonSpec, read_comparison
from fedloom.errors import FieldError
from shared.campaign.file import CampaignFileError, located
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


def compared(baselines: Baselines = Baselines.ALL) -> dict[str, Method]:
    return {method.name: method for method in methods(["fedavg", "fedadam"], SPEC, 4, baselines)}


def checked(grid: dict[str, Any], **changes: Any) -> GridSection:
    spec = CampaignSpec.model_validate({**FIELDS, **changes})
    section = GridSection.model_validate({"params": {}, **grid})
    return checked_grid(section, spec, list(compared().values()), 5, 4)


# --- points


def test_every_combination_is_a_point_and_baselines_have_only_what_one_client_has() -> None:
    grid = GridSection(
        learning_rate=[1e-3, 2e-3],
        params={"eta": [0.1]},
        fields={"lora.rank": [4, 8], "stragglers.over_selection": [0.0, 0.5], "training.max_grad_norm": [None]},
    )
    named = compared()
    adam = list(grid_points(named["fedadam"], SPEC, grid))
    assert len(adam) == count_points(named["fedadam"], SPEC, grid) == 2 * 1 * 2 * 2 * 1
    assert adam[1] == Hyperparameters(
        1e-3,
        (("eta", 0.1),),
        (("lora.rank", "4"), ("stragglers.over_selection", "0.5"), ("training.max_grad_norm", "null")),
    )
    assert str(adam[1]) == "lr 0.001, eta 0.1, rank 4, over_selection 0.5, max_grad_norm null"
    pooled = list(grid_points(named["pooled, batch ×2"], SPEC, grid))
    assert len(pooled) == count_points(named["pooled, batch ×2"], SPEC, grid) == 2 * 2
    assert pooled[0].values == {"lora.rank": 4, "training.max_grad_norm": None}
    assert count_points(named["base model"], SPEC, grid) == 1


def test_values_reach_the_campaign_and_the_rest_of_it_stays() -> None:
    point = Hyperparameters(4e-3, (), (("lora.rank", "4"), ("training.steps", "3"), ("training.batch_size", "5")))
    campaign = compared()["fedavg"].campaign(SPEC, point, 5, 4)
    assert campaign is not None
    assert (campaign.lora.rank, campaign.lora.alpha) == (4, 16.0)
    assert (campaign.training.steps, campaign.training.batch_size) == (3, 5)
    assert campaign.training.min_learning_rate == pytest.approx(4e-4)
    steps = compared()["pooled, steps ×2"].campaign(SPEC, point, 5, 4)
    assert steps is not None
    assert (steps.training.steps, steps.training.batch_size) == (6, 5)
    low = Hyperparameters(4e-3, (), (("training.min_learning_rate", "0.001"),))
    campaign = compared()["fedavg"].campaign(SPEC, low, 5, 4)
    assert campaign is not None
    assert campaign.training.min_learning_rate == 1e-3, "a value that is tried is not scaled"


def test_a_campaign_that_over_selects_has_baselines_that_do_not() -> None:
    spec = CampaignSpec.model_validate({**FIELDS, "stragglers": {"over_selection": 0.5}})
    alone = compared()["client-00 alone"].campaign(spec, Hyperparameters(1e-3), 5, 4)
    assert alone is not None
    assert (alone.stragglers.over_selection, alone.selection.clients_per_round) == (0.0, "all")


def test_baselines_send_nothing_so_nothing_is_rounded() -> None:
    spec = CampaignSpec.model_validate({**FIELDS, "wire": "int8"})
    sent = {
        name: compared()[name].campaign(spec, Hyperparameters(1e-3), 5, 4) for name in ("fedavg", "client-00 alone")
    }
    assert {name: campaign.wire for name, campaign in sent.items() if campaign is not None} == {
        "fedavg": "int8",
        "client-00 alone": "float32",
    }
    grid = GridSection(fields={"wire": ["float32", "int8"]})
    assert [count_points(compared()[name], SPEC, grid) for name in ("fedavg", "pooled, batch ×2")] == [2, 1]


def test_values_are_as_the_campaign_reads_them() -> None:
    found = checked({"fields": {"lora.alpha": [4, "8.5"], "lora.target_modules": ["all-linear", ["q_proj", "v_proj"]]}})
    assert found.fields == {
        "lora.alpha": [4.0, 8.5],
        "lora.target_modules": ["all-linear", ["q_proj", "v_proj"]],
    }


# --- what is refused

FILE = """name: x
clients: 4
validation: v
test: t
grid:
  params: {}
  fields:
    lora.rank: [4, 8]
"""


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["lora.rnak: [4]"], "line 9: grid.fields.lora.rnak: unknown field; did you mean rank?"),
        (["nothing: [4]"], "grid.fields.nothing: unknown field; known are lora, training, weighting, wire, rounds"),
        (["training.steps.more: [4]"], "line 9: grid.fields.training.steps.more: training.steps is a value, and has"),
        (
            ["weighting: [4]"],
            "line 9: grid.fields.weighting: is a section; give values of its fields, such as weighting.by",
        ),
        (["name: [a, b]"], "line 9: grid.fields.name: each run has its own name"),
        (["base.model: [a, b]"], "line 9: grid.fields.base.model: all methods are scored on one base model"),
        (["data.name: [a, b]"], "line 9: grid.fields.data.name: all methods train on the same data"),
        (["algorithm.params.mu: [1]"], "line 9: grid.fields.algorithm.params.mu: name algorithms with --algorithms"),
        (["training.seed: [1, 2]"], "line 9: grid.fields.training.seed: give the number of seeds with --seeds"),
        (["training.learning_rate: [1]"], "line 9: grid.fields.training.learning_rate: give the rates in grid.lear"),
        (["deadline.round_s: [1]"], "line 9: grid.fields.deadline.round_s: simulated clients take turns"),
        (["evaluation.every: [1, 2]"], "line 9: grid.fields.evaluation.every: no trial evaluates held-out rows"),
        (["training.batch_size: [8, 0]"], "line 9: grid.fields.training.batch_size.1: Input should be greater than"),
        (["lora.alpha:", "    - 8", "    - many"], "line 11: grid.fields.lora.alpha.1: Input should be a valid number"),
        (["lora.alpha: [8, 8.0]"], "line 9: grid.fields.lora.alpha.1: 8.0 is given twice"),
        (
            ["training.steps: [2, 6]", "training.warmup_steps: [0, 3]"],
            "line 10: grid.fields.training.warmup_steps.1: warmup_steps: 3 is not below steps 2, so the rate is never",
        ),
        (
            ["training.min_learning_rate: [1.0e-2]"],
            "line 9: grid.fields.training.min_learning_rate.0: min_learning_rate 0.01 is above learning_rate 0.002 "
            "(fedavg: lr 0.002, rank 4, min_learning_rate 0.01)",
        ),
        (
            ["stragglers.over_selection: [0.5]", "selection.clients_per_round: [2, all]"],
            "line 9: grid.fields.stragglers.over_selection.0: stragglers.over_selection: set selection.clients_per_r",
        ),
        (["selection.minimum: [2, 5]", "selection.clients_per_round: [all]"], "5 is above the number of clients, 4"),
        (["training.steps: [2000000]"], "at most 10,000,000 are possible"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_its_line(tmp_path: Path, lines: list[str], says: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(FILE + "".join(f"    {line}\n" for line in lines))
    spec = read_comparison(path)
    with pytest.raises(FieldError) as caught:
        checked_grid(spec.grid, SPEC, list(compared().values()), 5, spec.clients)
    [first, *_] = located(path, caught.value.problems).problems
    assert says in str(first)


def test_a_problem_is_told_once_and_all_problems_are_told() -> None:
    fields = {"lora.rank": [0, 4, 8], "training.batch_size": [1, 2, 4, 0], "training.weight_decay": [-1.0, 0.0]}
    with pytest.raises(FieldError) as caught:
        checked({"fields": fields})
    assert [place[2:] for place, _ in caught.value.problems] == [
        ("lora.rank", 0),
        ("training.weight_decay", 0),
        ("training.batch_size", 3),
    ]


def test_a_grid_with_too_many_combinations_is_not_walked_through() -> None:
    fields = {f"training.{name}": list(range(1, 1001)) for name in ("batch_size", "max_length", "steps")}
    with pytest.raises(FieldError, match=r"grid: 1,000,000,000 combinations for fedavg; at most 10,000 are tried"):
        checked({"fields": fields})


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ("learning_rate: [0.001, 1.0e-3]", "line 6: grid.learning_rate: 0.001 is given twice"),
        ("params: {eta: [1, 1.0]}", "line 6: grid.params.eta: 1.0 is given twice"),
        ("fields: {lora.rank: []}", "line 6: grid.fields.lora.rank: List should have at least 1 item"),
        ("fields: {lora.rank: 4}", "line 6: grid.fields.lora.rank: Input should be a valid list"),
    ],
)
def test_lists_are_checked_as_the_file_is_read(tmp_path: Path, grid: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(f"name: x\nclients: 4\nvalidation: v\ntest: t\ngrid:\n  {grid}\n")
    with pytest.raises(CampaignFileError) as caught:
        read_comparison(tmp_path / "c.yaml")
    assert says in str(caught.value)


# --- folders


def trials(folder: Path, **fields: list[Any]) -> Trials:
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"{n}?", "completion": "so"}) + "\n" for n in range(8))
    )
    named = {name.replace("__", "."): values for name, values in fields.items()}
    spec = ComparisonSpec.model_validate(
        {"name": "x", "clients": 4, "validation": "v", "test": "t", "grid": {"params": {}, "fields": named}}
    )
    settings = AgentSettings.model_validate(
        {"data": {"rows": {"path": str(folder / "rows.jsonl")}}, "policy": OPEN_POLICY}
    )
    made = Trials(spec, SPEC, settings, folder / "out")
    made.share_out(5)
    return made


def test_further_fields_and_values_keep_the_folders_of_what_was_trained(tmp_path: Path) -> None:
    fedavg = compared()["fedavg"]
    before = trials(tmp_path).trial(fedavg, Hyperparameters(2e-3), 5)
    more = trials(tmp_path, training__batch_size=[4, 8], lora__alpha=[16.0])
    own = Hyperparameters(2e-3, (), (("training.batch_size", "8"), ("lora.alpha", "16.0")))
    other = Hyperparameters(2e-3, (), (("training.batch_size", "4"), ("lora.alpha", "16.0")))
    assert before.simulation is not None
    same, different = more.trial(fedavg, own, 5), more.trial(fedavg, other, 5)
    assert same.simulation is not None
    assert same.folder == before.folder
    assert same.simulation.facts() == before.simulation.facts(), "so it is not trained again"
    assert different.folder.name == "fedavg-lr0.002-training.batch_size4"


def test_folders_differ_where_values_do_and_are_names_of_files() -> None:
    points = [
        Hyperparameters(0.001),
        Hyperparameters(0.0010000001),
        *(
            Hyperparameters(1e-3, (), (("lora.target_modules", json.dumps(value)),))
            for value in (["a"], ["b"], "a/../b")
        ),
        *(Hyperparameters(1e-3, (), tuple((f"section.name_{n}", text) for n in range(20))) for text in ("1", "2")),
    ]
    names = [point.folder_name for point in points]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name) <= 120 for name in names)
