"""An update stands on few rows if each step undoes what the steps before it learnt, however many rows were used."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from agent.policy.amounts import rows_remembered
from shared.campaign.spec import AlgorithmSection
from tests.agent.owner import Owner
from tests.agent.parts import campaign_spec, prepare_assignment

OwnerWith = Callable[..., Owner]


def training(rate: float, decay: float = 0.0, mu: float | None = None) -> dict[str, Any]:
    section = {"steps": 100, "batch_size": 8, "learning_rate": rate, "weight_decay": decay}
    algorithm = {"name": "fedprox", "params": {"mu": mu}} if mu is not None else {"name": "fedavg"}
    return {"training": section, "algorithm": algorithm}


@pytest.mark.parametrize(
    ("changes", "n_rows", "undone"),
    [
        (training(1e-4, mu=1e4), 8, 100),
        (training(1e-6, decay=1e6), 8, 100),
        (training(0.5, decay=1e5), 8, 100),
        (training(1e-3, decay=500, mu=500), 8, 100),
        (training(0.1, mu=3.0), 27, 30),
        (training(0.01, decay=21), 38, 21),
    ],
)
def test_a_training_that_forgets_is_refused(
    owner_with: OwnerWith, changes: dict[str, Any], n_rows: int, undone: int
) -> None:
    owner = owner_with(min_rows=40)
    said = owner.by_policy(prepare_assignment(campaign_spec(**changes)))
    assert said == (
        f"each step undoes {undone}% of those before it, by learning rate and weight decay or the algorithm's pull to "
        f"the start, so an update would stand on {n_rows} rows, and policy.min_rows = 40 (lower them, or raise "
        "training.batch_size)"
    )


@pytest.mark.parametrize(
    "changes",
    [training(2e-4), training(1e-3, decay=0.1), training(0.1, mu=1.0), training(0.01, decay=20), training(5.0)],
)
def test_usual_rates_are_not(owner_with: OwnerWith, changes: dict[str, Any]) -> None:
    owner, spec = owner_with(min_rows=40), campaign_spec(**changes)
    owner.admit(prepare_assignment(spec))
    assert rows_remembered(spec) >= 40


def test_parameters_that_the_algorithm_here_does_not_take_are_left_to_the_child() -> None:
    spec = campaign_spec(**training(1e-4)).model_copy(deep=True)
    spec.algorithm.params["nothing"] = "x"
    assert rows_remembered(spec) == math.inf


def test_a_pull_that_is_no_number_remembers_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AlgorithmSection, "pull", math.nan)
    assert rows_remembered(campaign_spec(**training(1e-4))) == 8
