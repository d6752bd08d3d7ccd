"""What of a result and of progress leaves at each level, without a network."""

import math

import pytest

from agent.configuration.policy import PolicySettings
from agent.errors import TaskFailed
from agent.policy.disclosure import Disclosure
from shared.kinds import find
from shared.metrics import Metric, Origin, Values, Weight
from shared.wire.tasks.leases import FailureKind, Progress
from shared.wire.tasks.results import EvaluateResult, Fingerprint, PrepareResult, TrainResult
from tests.agent.parts import FINGERPRINT, SHA
from tests.support.messages import evaluated, training_metrics

TRAINED = training_metrics(steps=123456, train_loss_mean=1.23456, tokens=54321, seconds=7.6543)


def disclosure(metrics: dict[str, Metric] | None = None, **policy: object) -> Disclosure:
    return Disclosure(PolicySettings.model_validate(policy), metrics or dict(find("sft").metrics))


def of_training(values: Values, **policy: object) -> Values:
    result = TrainResult.model_construct(kind="train", delta=SHA, metrics=values)
    left = disclosure(**policy).result(result)
    assert isinstance(left, TrainResult)
    assert left.delta == SHA
    return left.metrics


def of_evaluation(values: Values, **policy: object) -> Values:
    left = disclosure(**policy).result(EvaluateResult(metrics=values))
    assert isinstance(left, EvaluateResult)
    return left.metrics


def held_out(loss: float = 0.98765, **counts: int) -> Values:
    return EvaluateResult.model_validate(evaluated(loss, **{"n_rows": 123, "n_tokens": 54321, **counts})).metrics


def test_the_usual_level_is_round() -> None:
    assert of_training(TRAINED) == {"steps": 123456, "seconds": 7.65, "train_loss_mean": 1.23}


def test_nothing_leaves_but_the_steps_and_everything_in_full() -> None:
    assert of_training(TRAINED, report="none") == {"steps": 123456}
    assert of_training(TRAINED, report="live") == TRAINED


def test_what_the_registry_does_not_know_stays() -> None:
    """As when a child and its parent had other versions of a kind."""
    secret = {"first_token": 17.0, "held_out_loss": 2.0}
    assert of_training(TRAINED | secret) == of_training(TRAINED)
    assert of_evaluation(held_out() | {"first_token": 17.0}) == of_evaluation(held_out())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["train_loss_mean", "seconds"])
def test_what_is_not_finite_stays(name: str, value: float) -> None:
    assert name not in of_training(TRAINED | {name: value})


def test_held_out_metrics_are_rounded_and_rows_counted_exactly() -> None:
    assert of_evaluation(held_out()) == {"held_out_loss": 0.988, "held_out_rows": 123, "held_out_tokens": 54000}
    assert of_evaluation(held_out(), report="live") == held_out()


@pytest.mark.parametrize("report", ["round", "live"])
def test_no_number_leaves_over_too_few_held_out_rows_at_any_level(report: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        of_evaluation(held_out(n_rows=19), report=report)
    assert caught.value.failure.kind is FailureKind.REFUSED_BY_POLICY
    assert "would stand on 19 held-out rows, and policy.min_held_out = 20" in caught.value.failure.message
    assert of_evaluation(held_out(n_rows=19), report=report, min_held_out=19)


def test_an_evaluation_without_its_count_of_rows_does_not_leave() -> None:
    values = {name: value for name, value in held_out().items() if name != "held_out_rows"}
    with pytest.raises(TaskFailed, match="0 held-out rows"):
        of_evaluation(values)


@pytest.mark.parametrize(("value", "left"), [(0.12344, 0.1235), (0.99999, 0.99985), (0.5, 0.5)])
def test_rounding_does_not_leave_the_bounds_of_a_metric(value: float, left: float) -> None:
    bounds = {"minimum": 0.1235, "maximum": 0.99985}
    share = Metric(name="share", title="share", origin=Origin.TRAINING, weight=Weight.UPDATE, **bounds)
    result = TrainResult(delta=SHA, metrics={"share": value})
    for _ in range(2):  # a second time changes nothing
        result = disclosure({"share": share}).result(result)  # type: ignore[assignment]
        assert result.metrics == {"share": left}


@pytest.mark.parametrize(
    ("report", "n_held_out", "evaluates"),
    [
        *(("none", 1000, False), ("round", 19, False), ("round", 20, True), ("round", 0, False)),
        *(("live", 19, False), ("live", 20, True)),
    ],
)
def test_a_preparation_says_what_leaves(report: str, n_held_out: int, evaluates: bool) -> None:
    counted = PrepareResult(fingerprint=Fingerprint(**FINGERPRINT), rank=2, n_train=50, n_held_out=n_held_out)
    left = disclosure(report=report).prepared(counted, n_held_out)
    assert (left.report, left.evaluates) == (report, evaluates)
    assert left.model_copy(update={"report": "round", "evaluates": True}) == counted


def test_progress_is_a_phase_and_a_count() -> None:
    machine = {"peak_memory_bytes": 5, "gpu_memory_bytes": 9, "gpu_utilization": 0.5}
    measured = {"loss": 1.5, "tokens_per_s": 99.0, "seconds_left": 7.0, "metrics": {"reward_margin": 0.5}} | machine
    full = Progress.model_validate({"phase": "training", "done": 3, "total": 9} | measured)
    assert full.model_fields_set == set(Progress.model_fields)
    for report in ("none", "round"):
        left = disclosure(report=report).progress(full)
        assert left.model_dump(exclude_defaults=True) == {"phase": "training", "done": 3, "total": 9}
    assert disclosure(report="live").progress(full) == full
