"""Campaigns that stop early, or name the metric of their best adapter, in a comparison."""

from types import MappingProxyType
from typing import Any

import pytest

from fedloom.comparison.baselines import Baselines
from fedloom.comparison.planning.checks import checked_grid
from fedloom.comparison.planning.grid import GridSection
from fedloom.comparison.planning.held_out import decides_by_evaluation
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import methods
from fedloom.errors import FieldError
from shared.campaign.spec import CampaignSpec

FIELDS = MappingProxyType(
    {
        "name": "c",
        "base": {"model": "org/tiny"},
        "training": {"steps": 4, "learning_rate": 2e-3},
        "data": {"name": "rows"},
        "rounds": 6,
        "selection": {"minimum": 2},
    }
)


def spec(**evaluation: Any) -> CampaignSpec:
    return CampaignSpec.model_validate({**FIELDS, "evaluation": evaluation})


def trained(campaign: CampaignSpec, *fields: tuple[str, str]) -> CampaignSpec:
    _, fedavg = methods(["fedavg"], campaign, 3, Baselines.NONE)
    found = fedavg.campaign(campaign, Hyperparameters(1e-3, (), fields), 0, 3)
    assert found is not None
    return found


def checked(campaign: CampaignSpec, **fields: list[Any]) -> GridSection:
    grid = GridSection(params={}, fields={f"evaluation.{name}": values for name, values in fields.items()})
    return checked_grid(grid, campaign, list(methods(["fedavg"], campaign, 3, Baselines.ALL)), 0, 3)


def test_held_out_rows_are_evaluated_only_where_something_follows_of_it() -> None:
    assert trained(spec(every=2)).evaluation.every == 0
    for evaluation in ({"stop": {"patience": 2}}, {"best": "held_out_loss"}):
        campaign = trained(spec(every=2, **evaluation))
        assert decides_by_evaluation(campaign)
        assert campaign.evaluation.every == 2


def test_trials_run_no_benchmarks() -> None:
    campaign = trained(spec(stop={"patience": 2}, tasks=["fpb"], limit=4))
    assert campaign.evaluation.stop is not None
    assert campaign.evaluation.benchmarks == []


def test_a_value_may_turn_stopping_on_and_off() -> None:
    fields = checked(spec(), stop=[None, {"patience": 1}]).fields["evaluation.stop"]
    assert fields[0] is None
    assert fields[1]["patience"] == 1
    assert trained(spec(), ("evaluation.stop", "null")).evaluation.every == 0
    stopping = trained(spec(), ("evaluation.stop", '{"patience": 1}'))
    assert stopping.evaluation.stop is not None
    assert stopping.evaluation.every == 1
    assert trained(spec(stop={}), ("evaluation.stop.patience", "7")).evaluation.stop.patience == 7  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("evaluation", "fields", "says"),
    [
        ({}, {"stop.patience": [1, 2]}, "the campaign has no evaluation.stop; add it to the campaign's file, or give"),
        ({"stop": {}}, {"stop.patience": [0]}, "Input should be greater than or equal to 1"),
        ({"stop": {}}, {"stop.patience": [1], "stop": [None]}, "it is a part of evaluation.stop, which has values too"),
        ({}, {"tasks": [["fpb"]]}, "trials run no benchmarks at clients; the comparison has an evaluation of its own"),
        (
            {"tasks": ["fpb"], "best": "fpb.acc"},
            {},
            "stop and choose their adapter by held-out rows, and not by fpb.acc",
        ),
        ({"tasks": ["fpb"], "stop": {}}, {"best": ["fpb.acc"]}, "and not by fpb.acc"),
    ],
)
def test_what_trials_cannot_decide_by_is_refused(evaluation: dict[str, Any], fields: dict[str, Any], says: str) -> None:
    with pytest.raises(FieldError) as caught:
        checked(spec(**evaluation), **fields)
    assert says in str(caught.value)
