"""What left once leaves again as it is, or less of it; never more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.configuration.open_policy import opened
from agent.configuration.policy import PolicySettings
from agent.errors import TaskFailed
from agent.orders.job import Done
from agent.record.bookings import WorkKind
from shared.wire.tasks.leases import FailureKind
from shared.wire.tasks.results import EvaluateResult, Result, TrainResult
from tests.agent.owner import Owner
from tests.agent.parts import SHA, evaluate_assignment, train_assignment
from tests.support.messages import evaluated, training_metrics

FULL = TrainResult(delta=SHA, metrics=training_metrics(train_loss_mean=1.23456))
EVALUATED = EvaluateResult.model_validate(evaluated(0.98765, n_rows=20, n_tokens=12345))


def owner_with(home: Path, report: str) -> Owner:
    owner = Owner(home, report=report)
    owner.prepare()
    return owner


def change(owner: Owner, report: str) -> None:
    owner.change(policy=opened(PolicySettings.model_validate({"report": report})))


def train(owner: Owner) -> Result:
    """What leaves of a round's training, whose files are still in its folder."""
    task = train_assignment()
    return owner.admission.record_answer(owner.settings, task, owner.admit(task), Done(result=FULL, n_distinct=100))


def evaluate(owner: Owner) -> Result:
    """What leaves of an evaluation, which is done once."""
    task = evaluate_assignment()
    admitted = owner.admit(task)
    return admitted.answer or owner.admission.record_answer(
        owner.settings, task, admitted, Done(result=EVALUATED, n_distinct=100)
    )


@pytest.mark.parametrize("work", [train, evaluate])
def test_a_looser_setting_lets_out_no_more_of_what_left(tmp_path: Path, work: Callable[[Owner], Result]) -> None:
    owner = owner_with(tmp_path / "home", "round")
    first = work(owner)
    assert first not in (FULL, EVALUATED)
    change(owner, "live")
    assert work(owner) == first


@pytest.mark.parametrize("work", [train, evaluate])
def test_a_stricter_setting_binds_what_was_stored(tmp_path: Path, work: Callable[[Owner], Result]) -> None:
    owner = owner_with(tmp_path / "home", "live")
    assert work(owner) in (FULL, EVALUATED)
    change(owner, "round")
    rounded = work(owner)
    assert rounded == work(owner_with(tmp_path / "other", "round"))


def test_with_nothing_to_report_a_stored_evaluation_is_refused_and_of_a_training_the_steps_leave(
    tmp_path: Path,
) -> None:
    owner = owner_with(tmp_path / "home", "live")
    train(owner), evaluate(owner)
    change(owner, "none")
    left = train(owner)
    assert isinstance(left, TrainResult)
    assert left.metrics == {"steps": 5}
    assert owner.refusal(evaluate_assignment()).kind is FailureKind.REFUSED_BY_POLICY


@pytest.mark.parametrize("kind", [WorkKind.TRAIN, WorkKind.EVALUATE])
def test_what_was_measured_stays_with_the_owner_where_the_settings_refuse_it_by_then(
    tmp_path: Path, kind: WorkKind
) -> None:
    owner = owner_with(tmp_path / "home", "live")
    is_training = kind is WorkKind.TRAIN
    task = train_assignment() if is_training else evaluate_assignment()
    admitted = owner.admit(task)
    assert admitted.work is not None
    if is_training:
        owner.change(policy=opened(PolicySettings(min_rows=101)))
    else:
        change(owner, "none")
    done = Done(result=FULL if is_training else EVALUATED, n_distinct=100)
    with pytest.raises(TaskFailed) as caught:
        owner.admission.record_answer(owner.settings, task, admitted, done)
    assert caught.value.failure.kind is FailureKind.REFUSED_BY_POLICY
    [measured] = owner.record.measured.standing(task.campaign_id, kind)
    assert measured.metrics == done.result.metrics
    assert owner.record.bookings.result_of(admitted.work) is None
