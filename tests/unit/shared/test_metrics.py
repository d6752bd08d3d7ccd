"""The registry of metrics: values in words, bounds, and means over clients."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.metrics import MAX_METRICS, Better, Metric, Origin, Values, Weight

LOSS = Metric(name="loss", title="loss", origin=Origin.EVALUATION, unit="nats a token", better=Better.LOWER)
SHARE = Metric(name="hits", title="hits", origin=Origin.EVALUATION, unit="of pairs", minimum=0, maximum=1)
COUNT = Metric(name="n", title="n", origin=Origin.TRAINING, weight=Weight.UPDATE, minimum=1)


def test_a_value_is_shown_with_its_unit_and_a_share_in_percent() -> None:
    assert LOSS.with_unit(2.31049) == "2.3105 nats a token"
    assert SHARE.with_unit(0.625) == "62.5% of pairs"
    assert COUNT.with_unit(3) == "3.0000"


@pytest.mark.parametrize(
    ("metric", "value", "problem"),
    [
        (LOSS, -5, None),
        (SHARE, 1.0, None),
        (SHARE, 1.5, "1.5 is above 1"),
        (SHARE, -0.1, "-0.1 is below 0"),
        (COUNT, 0, "0 is below 1"),
    ],
)
def test_bounds(metric: Metric, value: float, problem: str | None) -> None:
    assert metric.problem(value) == problem


def test_worse_is_what_the_shown_digits_and_the_direction_say() -> None:
    share = Metric(name="share", title="share", origin=Origin.EVALUATION, better=Better.HIGHER, minimum=0, maximum=1)
    assert (LOSS.is_worse(1.0002, 1.0), LOSS.is_worse(1.0, 1.0002), LOSS.is_worse(1.00001, 1.0)) == (True, False, False)
    assert (share.is_worse(0.5, 0.75), share.is_worse(0.75, 0.5), share.is_worse(0.75, 0.7501)) == (True, False, False)
    assert not COUNT.is_worse(2.0, 1.0)


def test_a_mean_is_weighted_stays_finite_and_within_the_values() -> None:
    assert LOSS.mean([(3, 1.0), (1, 5.0)]) == 2.0
    assert LOSS.mean([(10**6, 1e308), (10**6, 1e308)]) == 1e308
    assert LOSS.mean([(1.7e308, 2.0), (1.7e308, 4.0)]) == pytest.approx(3.0)
    assert LOSS.mean([(1, -1.7e308), (1, 1.7e308)]) == 0.0
    assert LOSS.mean([(5, 0.0)]) == 0.0
    for n in range(1, 60):
        assert SHARE.mean([(n, 1.0), (2 * n + 1, 1.0), (7, 1.0)]) == 1.0


@pytest.mark.parametrize(
    "values",
    [
        {"loss": math.nan},
        {"loss": math.inf},
        {"Loss": 1.0},
        {"a b": 1.0},
        {"x" * 41: 1.0},
        {"x": "1"},
        {f"m{i}": 1.0 for i in range(MAX_METRICS + 1)},
    ],
)
def test_what_the_wire_refuses(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Values).validate_python(values, strict=True)
    assert TypeAdapter(Values).validate_python({f"m{i}": 1.0 for i in range(MAX_METRICS)})
