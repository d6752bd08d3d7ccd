"""What the policy refuses once the rows are counted, each key at its edge."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import TaskFailed
from shared.wire.tasks.leases import FailureKind
from tests.agent.owner import Owner
from tests.agent.parts import campaign_spec, evaluate_assignment

OwnerWith = Callable[..., Owner]
EPOCHS = {"training": {"epochs": 1, "batch_size": 2}}


def refused(owner: Owner, spec: dict[str, Any], **counts: Any) -> str:
    """What a preparation is refused for. Nothing of it is recorded, so no training can follow."""
    with pytest.raises(TaskFailed) as caught:
        owner.prepare(campaign_spec(**spec), **counts)
    assert caught.value.failure.kind is FailureKind.REFUSED_BY_POLICY
    assert owner.known().prepared is None
    return str(caught.value).removeprefix("refused by this agent's policy: ")


@pytest.mark.parametrize(
    ("policy", "spec", "counts", "says"),
    [
        (
            {"min_rows": 10},
            {},
            {"n_train": 100, "n_distinct": 9},
            "an update would stand on 9 distinct rows, and policy.min_rows = 10",
        ),
        ({"min_rows": 10}, {}, {"n_train": 9}, "an update would stand on 9 distinct rows, and policy.min_rows = 10"),
        (
            {"min_rows": 10},
            EPOCHS,
            {"n_train": 9},
            "an update would stand on 9 distinct rows, and policy.min_rows = 10",
        ),
        ({"max_steps": 4}, EPOCHS, {"n_train": 9}, "a round has 5 steps, and policy.max_steps = 4"),
        ({"max_rows_per_task": 9}, EPOCHS, {"n_train": 9}, "a round uses 10 rows, and policy.max_rows_per_task = 9"),
        (
            {"max_epochs": 1.0},
            {},
            {"n_train": 29},
            "3 rounds make 1.04 passes over 29 rows, and policy.max_epochs = 1 (lower rounds or training.steps)",
        ),
        (
            {"max_epochs": 2.5},
            EPOCHS,
            {"n_train": 10},
            "3 rounds make 3 passes, and policy.max_epochs = 2.5 (lower rounds or training.epochs)",
        ),
    ],
)
def test_just_beyond_the_edge_is_refused(
    owner_with: OwnerWith, policy: dict[str, Any], spec: dict[str, Any], counts: dict[str, Any], says: str
) -> None:
    assert refused(owner_with(**policy), spec, **counts) == says


@pytest.mark.parametrize(
    ("policy", "spec", "counts"),
    [
        ({"min_rows": 10}, {}, {"n_train": 100, "n_distinct": 10}),
        ({"min_rows": 10}, EPOCHS, {"n_train": 10}),
        ({"max_steps": 5}, EPOCHS, {"n_train": 10}),
        ({"max_rows_per_task": 10}, EPOCHS, {"n_train": 10}),
        ({"max_epochs": 1.0}, {}, {"n_train": 30}),
        ({"max_epochs": 3}, EPOCHS, {"n_train": 10}),
        # of clients that are drawn, nobody knows the rounds beforehand: the bookings count them
        ({"max_epochs": 1.0}, {"selection": {"minimum": 2, "clients_per_round": 2}}, {"n_train": 10}),
    ],
)
def test_the_edge_itself_is_allowed(
    owner_with: OwnerWith, policy: dict[str, Any], spec: dict[str, Any], counts: dict[str, Any]
) -> None:
    owner = owner_with(**policy)
    owner.prepare(campaign_spec(**spec), **counts)
    assert owner.known().prepared is not None


def test_rows_that_are_repeated_count_once(owner_with: OwnerWith) -> None:
    said = refused(owner_with(min_rows=10), {}, n_train=1000, n_distinct=1)
    assert said == "an update would stand on 1 distinct row, and policy.min_rows = 10"


def test_an_evaluation_stands_on_enough_rows(owner_with: OwnerWith) -> None:
    owner = owner_with(min_held_out=20)
    owner.prepare(n_held_out=19)
    said = owner.by_policy(evaluate_assignment())
    assert said == "an evaluation would stand on 19 held-out rows, and policy.min_held_out = 20"
    owner.prepare(n_held_out=20)
    owner.admit(evaluate_assignment())


def test_without_losses_there_is_no_evaluation(owner_with: OwnerWith) -> None:
    owner = owner_with(report="none")
    owner.prepare()
    said = owner.by_policy(evaluate_assignment())
    assert said == 'an evaluation reports losses, and policy.report = "none"'
    owner.train()


@pytest.mark.parametrize("report", ["round", "live"])
def test_with_losses_there_is_one(owner_with: OwnerWith, report: str) -> None:
    owner = owner_with(report=report)
    owner.prepare()
    assert owner.admit(evaluate_assignment()).answer is None
    assert owner.record.bookings.of_campaign("c1").n_evaluations == 1
