"""Assignments that contradict what was accepted: each is refused by the name of its field."""

from collections.abc import Callable
from typing import Any

import pytest

from shared.wire.tasks.assignments import Assignment
from tests.agent.owner import Owner
from tests.agent.parts import (
    FINGERPRINT,
    SHA,
    campaign_spec,
    digest_of,
    evaluate_assignment,
    init_assignment,
    prepare_assignment,
    train_assignment,
)

MakeTask = Callable[..., Assignment]
AFTER_PREPARING = [init_assignment, train_assignment, evaluate_assignment]
DIGEST = digest_of(campaign_spec())


@pytest.fixture
def ready(owner: Owner) -> Owner:
    """An owner whose agent has prepared for the campaign."""
    owner.prepare()
    return owner


@pytest.mark.parametrize("make", AFTER_PREPARING)
def test_a_task_of_a_specification_that_was_not_accepted(ready: Owner, make: MakeTask) -> None:
    said = ready.mismatch(make(campaign_spec(rounds=2)))
    assert said == f"spec_sha256: it is not {DIGEST[:12]}…, which was accepted"


@pytest.mark.parametrize("make", AFTER_PREPARING)
def test_a_task_before_the_preparation(owner: Owner, make: MakeTask) -> None:
    owner.admit(prepare_assignment())
    said = owner.mismatch(make())
    assert said.startswith("campaign_id: this agent has not prepared for the campaign")


@pytest.mark.parametrize("make", AFTER_PREPARING)
@pytest.mark.parametrize("part", list(FINGERPRINT))
def test_a_task_on_another_base_model(ready: Owner, make: MakeTask, part: str) -> None:
    said = ready.mismatch(make(fingerprint=FINGERPRINT | {part: "b" * 64}))
    assert said == f"fingerprint.{part}: it is not the one that this agent found when it prepared"


@pytest.mark.parametrize("make", [train_assignment, evaluate_assignment])
@pytest.mark.parametrize("number", [4, 100_000])
def test_a_round_beyond_the_campaigns(ready: Owner, make: MakeTask, number: int) -> None:
    assert ready.mismatch(make(round=number)) == f"round: {number} is beyond rounds = 3 of the accepted campaign"
    ready.admit(make(round=3))


def test_another_client_number_than_in_the_first_training(ready: Owner) -> None:
    assert ready.mismatch(train_assignment(round=4, client_number=2)).startswith("round")  # refused, so not pinned
    ready.train(client_number=1)
    for number in (0, 2, 100_000):
        for round_number in (1, 2):
            task = train_assignment(client_number=number, round=round_number)
            said = ready.mismatch(task)
            assert said == f"client_number: {number}, and it was 1 before"
    ready.train(round=2, client_number=1)


def test_a_client_number_may_change_with_a_declared_history_which_is_counted(ready: Owner) -> None:
    """A restored coordinator gives the numbers of those who joined since its backup anew."""
    ready.train(client_number=1)
    ready.train(client_number=2, history=1)
    assert (
        ready.mismatch(train_assignment(client_number=1, round=2, history=1)) == "client_number: 1, and it was 2 before"
    )
    assert len(ready.record.bookings.histories("c1")) == 2


def test_the_client_number_stays_when_the_specification_changes(ready: Owner) -> None:
    ready.train(client_number=1)
    other = campaign_spec(rounds=5)
    ready.prepare(other)
    assert ready.mismatch(train_assignment(other, round=2, client_number=0)).startswith("client_number: 0")


def test_an_evaluation_in_a_campaign_without_any(owner: Owner) -> None:
    spec = campaign_spec(evaluation={"every": 0})
    owner.prepare(spec)
    said = owner.mismatch(evaluate_assignment(spec))
    assert said == "evaluation.every: it is 0 in the accepted campaign, so no adapter is evaluated"


def test_a_number_of_rollbacks_that_goes_down(ready: Owner) -> None:
    ready.train(round=1)
    ready.train(round=1, history=2)
    for number in (0, 1):
        said = ready.mismatch(train_assignment(round=2, history=number))
        assert said == f"history: it is {number}, and was 2 before"
    ready.train(round=2, history=2)
    ready.train(round=1, history=3)


@pytest.mark.parametrize("part", list(FINGERPRINT))
@pytest.mark.parametrize("work", [train_assignment, evaluate_assignment])
def test_a_base_model_that_changed_after_work_was_begun(ready: Owner, part: str, work: MakeTask) -> None:
    changed = FINGERPRINT | {part: "b" * 64}
    ready.prepare(fingerprint=changed)
    ready.prepare()
    ready.admit(work())
    ready.prepare()
    with pytest.raises(Exception, match=r"fingerprint: the base model here is not the one that this agent worked"):
        ready.prepare(fingerprint=changed)
    prepared = ready.known().prepared
    assert prepared is not None
    assert prepared.fingerprint.model_dump() == FINGERPRINT


@pytest.mark.parametrize("make", [*AFTER_PREPARING, prepare_assignment])
def test_nothing_is_booked_for_what_is_refused(ready: Owner, make: MakeTask) -> None:
    before = ready.record.bookings.of_campaign("c1")
    wrong: list[dict[str, Any]] = [{"spec_sha256": SHA}, {"campaign_id": "c2", "spec_sha256": SHA}]
    for changes in wrong:
        assert ready.mismatch(make(**changes))
    assert ready.record.bookings.of_campaign("c1") == before
    assert ready.record.bookings.of_campaign("c2") == before
    assert [each.id for each in ready.record.campaigns.all()] == ["c1"]
