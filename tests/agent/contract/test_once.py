"""One training a round and one evaluation an adapter number: a further request gets the answer of the first."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import TaskFailed
from agent.orders.job import Done
from shared.wire.tasks.assignments import Assignment
from shared.wire.tasks.leases import FailureKind
from shared.wire.tasks.results import EvaluateResult
from tests.agent.owner import Owner
from tests.agent.parts import campaign_spec, evaluate_assignment, train_assignment
from tests.support.messages import evaluated

OTHER_ADAPTER = {"sha256": "b" * 64, "n_bytes": 10}


@pytest.fixture
def ready(owner: Owner) -> Owner:
    owner.prepare()
    return owner


def test_a_training_is_booked_once_however_often_it_is_asked_for(ready: Owner) -> None:
    for n_clients in (3, 4):
        ready.admit(train_assignment(n_clients=n_clients))
    totals = ready.record.bookings.of_campaign("c1")
    assert (totals.n_trainings, totals.steps, totals.n_rows) == (1, 5, 10)


def test_a_training_that_was_answered_and_whose_files_are_gone_is_not_done_again(ready: Owner) -> None:
    ready.train()
    admitted = ready.admit(train_assignment())
    with pytest.raises(TaskFailed, match="round 1 was trained and sent before, and its update is no longer here") as no:
        ready.admission.check_not_gone(admitted)
    assert no.value.failure.kind is FailureKind.CONTRACT_MISMATCH


def test_a_training_that_was_booked_and_not_finished_is_done(ready: Owner) -> None:
    for _ in range(2):
        ready.admission.check_not_gone(ready.admit(train_assignment()))


def test_another_client_state_makes_no_other_training_of_a_round(ready: Owner) -> None:
    ready.train()
    with pytest.raises(TaskFailed, match="a round is trained once"):
        ready.train(committed_update="c" * 64)
    assert ready.record.bookings.of_campaign("c1").n_trainings == 1


@pytest.mark.parametrize("task", [train_assignment, evaluate_assignment])
@pytest.mark.parametrize("was_done", [True, False])
def test_a_round_begins_with_one_adapter_whether_it_ended_or_failed(
    ready: Owner, task: Callable[..., Assignment], *, was_done: bool
) -> None:
    """Otherwise failures alone would tell of the rows, by adapters that fail at one word."""
    if was_done and task is train_assignment:
        ready.train()
    ready.admit(task())
    refused = ready.refusal(task(adapter=OTHER_ADAPTER))
    assert refused.kind is FailureKind.CONTRACT_MISMATCH
    what = "round 1" if task is train_assignment else "the evaluation of adapter 1"
    assert refused.message == f"adapter.sha256: {what} was begun with aaaaaaaaaaaa…, and not with bbbbbbbbbbbb…"


@pytest.mark.parametrize("was_done", [True, False])
@pytest.mark.parametrize(("first", "then"), [(None, "b"), ("b", None), ("b", "c")])
def test_a_round_begins_with_one_broadcast_of_the_algorithm(
    ready: Owner, first: str | None, then: str | None, *, was_done: bool
) -> None:
    """It moves the adapter from the first step on, so it could be crafted as an adapter can."""
    one, other = (each and {"sha256": each * 64, "n_bytes": 10} for each in (first, then))
    ready.admit(train_assignment(round=2, broadcast=one))
    if was_done:
        ready.train(round=2, broadcast=one)
    was, now = (f"{each * 12}…" if each else "none" for each in (first, then))
    said = ready.mismatch(train_assignment(round=2, broadcast=other))
    assert said == f"broadcast.sha256: round 2 was begun with {was}, and not with {now}"
    assert ready.record.bookings.of_campaign("c1").n_trainings == 1


def test_round_1_has_no_broadcast(ready: Owner) -> None:
    """Adapter 0 is checked by its seed, and nothing may move it before the first step counts."""
    for history in (0, 1):
        said = ready.mismatch(train_assignment(history=history, broadcast=OTHER_ADAPTER))
        assert said == "broadcast: round 1 has none, because it starts from the algorithm's initial state"
    assert ready.record.bookings.of_campaign("c1").n_trainings == 0


def test_rounds_rise_until_another_history_is_declared(ready: Owner) -> None:
    ready.train(round=2)
    message = "round: 1 comes after 2, and no rollback was declared"
    assert ready.refusal(train_assignment()).message == message
    ready.train(history=1)
    ready.train(round=2, history=1, adapter=OTHER_ADAPTER)
    assert ready.record.bookings.of_campaign("c1").n_trainings == 3


def test_a_declared_rollback_trains_a_round_again_and_is_counted(ready: Owner) -> None:
    ready.train()
    ready.train(history=1)
    assert ready.record.bookings.of_campaign("c1").n_trainings == 2


def evaluate(owner: Owner, loss: float, **changes: Any) -> EvaluateResult:
    """Do an evaluation, or get the stored answer."""
    task = evaluate_assignment(**changes)
    admitted = owner.admit(task)
    if admitted.answer is not None:
        assert isinstance(admitted.answer, EvaluateResult)
        return admitted.answer
    result = EvaluateResult.model_validate(evaluated(loss))
    owner.admission.record_answer(owner.settings, task, admitted, Done(result=result, n_distinct=100))
    return result


def test_a_campaign_evaluates_one_adapter_a_round_in_each_history(ready: Owner) -> None:
    first = evaluate(ready, 1.5, round=1)
    assert evaluate(ready, 9.0, round=1) == first
    for number in (2, 3):
        assert evaluate(ready, 1.25, round=number, adapter=OTHER_ADAPTER).metrics["held_out_loss"] == 1.25
    assert evaluate(ready, 1.0, round=1, history=1, adapter=OTHER_ADAPTER).metrics["held_out_loss"] == 1.0
    assert ready.record.bookings.of_campaign("c1").n_evaluations == 4


def test_the_stored_answer_outlives_a_restart(ready: Owner) -> None:
    first = evaluate(ready, 1.5)
    assert evaluate(Owner(ready.home), 9.0) == first


def test_an_evaluation_that_was_not_finished_is_done_and_booked_once(ready: Owner) -> None:
    for _ in range(2):
        assert ready.admit(evaluate_assignment()).answer is None
    assert ready.record.bookings.of_campaign("c1").n_evaluations == 1


def test_the_first_answer_stays(ready: Owner) -> None:
    task = evaluate_assignment()
    for loss in (1.5, 2.5):
        admitted = ready.admission.admit(ready.settings, evaluate_assignment())
        done = Done(result=EvaluateResult.model_validate(evaluated(loss)), n_distinct=100)
        ready.admission.record_answer(ready.settings, task, admitted, done)
    assert evaluate(ready, 9.0).metrics["held_out_loss"] == 1.5


def test_another_campaign_evaluates_for_itself(ready: Owner) -> None:
    evaluate(ready, 1.5)
    ready.prepare(campaign_spec(rounds=2), campaign_id="c2")
    task = evaluate_assignment(campaign_spec(rounds=2), campaign_id="c2")
    assert ready.admit(task).answer is None
