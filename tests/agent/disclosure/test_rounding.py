"""Significant digits."""

import math
import sys

import pytest

from agent.policy.disclosure import significant

LARGEST, SMALLEST = sys.float_info.max, 5e-324


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (2.345678, 2.35),
        (-0.00123456, -0.00123),
        (999.9, 1000.0),
        (123456.0, 123000.0),
        (0.0, 0.0),
        (1e-9, 1e-9),
        (SMALLEST, SMALLEST),
        (-SMALLEST, -SMALLEST),
        (2.2250738585072014e-308, 2.23e-308),
        (LARGEST, 1.79e308),  # to the nearest would be infinite
        (-LARGEST, -1.79e308),
    ],
)
def test_three_digits(value: float, rounded: float) -> None:
    assert significant(value, 3) == rounded
    assert significant(rounded, 3) == rounded, "a second time changes nothing"


@pytest.mark.parametrize("value", [-0.0, 0.0])
def test_there_is_no_negative_zero(value: float) -> None:
    assert math.copysign(1.0, significant(value, 3)) == 1.0


@pytest.mark.parametrize("exponent", range(-320, 309, 17))
@pytest.mark.parametrize("mantissa", [1.0, 1.005, 3.14159, 9.9949, 9.9951])
@pytest.mark.parametrize("sign", [-1, 1])
def test_every_size_is_finite_and_near(exponent: int, mantissa: float, sign: int) -> None:
    value = sign * float(f"{mantissa}e{exponent}")
    if math.isfinite(value):
        rounded = significant(value, 3)
        assert math.isfinite(rounded)
        assert math.isclose(rounded, value, rel_tol=0.00501, abs_tol=SMALLEST)
        assert significant(rounded, 3) == rounded
