"""Intervals at 95 %: Wilson's for shares, and the bootstrap over items for everything else.

Where all pairs of two models differ alike, resamples do too: their difference has Bonett and Price's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedloom.evaluation.tasks.base import Interval

Floats = NDArray[np.float64]
Sums = Callable[[Floats], Floats]
"""From sums over items, of shape (..., k), to values of shape (...)."""

LEVEL = 0.95
RESAMPLES = 10_000
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_MOST_KINDS = 500
"""With so many different rows or fewer, resamples draw how often each occurs, which is the same and faster."""
_DRAWN_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Confidence:
    """An interval that covers the true value in 95 % of samples.

    Args:
        low, high: its ends.
        method: how it was computed.
    """

    low: float
    high: float
    method: Interval


def wilson(n_right: float, n: int) -> Confidence:
    """Wilson's score interval of a share. Its ends are never outside [0, 1], and it has a width even at 0 and 1."""
    share, square = n_right / n, _Z**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = _Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    low = 0.0 if n_right == 0 else max(0.0, middle - half)
    high = 1.0 if n_right == n else min(1.0, middle + half)
    return Confidence(low, high, "wilson")


def bonett_price(n_lost: int, n_won: int, n: int) -> Confidence:
    """The interval of a difference of paired shares (Bonett and Price 2012), which has a width even if no pair differs.

    Args:
        n_lost: pairs that the first has right and the second wrong.
        n_won: the other way round.
        n: pairs.
    """
    lost, won = (n_lost + 1) / (n + 2), (n_won + 1) / (n + 2)
    half = _Z * math.sqrt((lost + won - (won - lost) ** 2) / (n + 2))
    return Confidence(max(-1.0, won - lost - half), min(1.0, won - lost + half), "bonett-price")


def normal(value: float, stderr: float) -> Confidence:
    """The interval of an estimate that is normal around the true value."""
    return Confidence(value - _Z * stderr, value + _Z * stderr, "normal")


def standard_error(confidence: Confidence) -> float:
    """The standard error of a normal estimate with an interval of this width."""
    return (confidence.high - confidence.low) / (2 * _Z)


def bootstrap(rows: Floats, value_of: Sums, seed: int, n_resamples: int = RESAMPLES) -> tuple[Confidence | None, float]:
    """The bias-corrected and accelerated bootstrap (BCa; Efron 1987) of a value that depends on sums over items.

    Args:
        rows: what each item adds to the sums, of shape (n, k).
        value_of: from sums to the value.
        seed: of the resamples.
        n_resamples: how many are drawn.

    Returns:
        The interval, and the standard error. No interval if all resamples have one value: then the items say nothing
        of how the value varies, and an interval without width would claim that it does not.
    """
    total = rows.sum(axis=0)
    value = float(value_of(total))
    values = value_of(resampled_sums(rows, seed, n_resamples))
    without_one = value_of(total - rows)
    return interval_of(values, value, without_one), spread(values)


def resampled_sums(rows: Floats, seed: int, n_resamples: int) -> Floats:
    """Sums over items drawn with replacement, of shape (n_resamples, k)."""
    generator = np.random.default_rng(seed)
    n = len(rows)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    if len(kinds) <= _MOST_KINDS:
        drawn = generator.multinomial(n, counts / n, size=n_resamples)
        return np.asarray(drawn @ kinds, dtype=np.float64)
    sums = np.empty((n_resamples, rows.shape[1]))
    columns = [np.ascontiguousarray(column) for column in rows.T]
    step = max(1, _DRAWN_AT_ONCE // n)
    for start in range(0, n_resamples, step):
        indices = generator.integers(0, n, size=(min(step, n_resamples - start), n))
        for place, column in enumerate(columns):
            sums[start : start + step, place] = column.take(indices).sum(axis=1)
    return sums


def interval_of(values: Floats, value: float, without_one: Floats | None = None) -> Confidence | None:
    """The interval that resampled values give; None if all are one value, or none is finite.

    Args:
        values: of the resamples.
        value: of the items themselves.
        without_one: the values without each item in turn, for BCa; None takes the plain percentiles.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0 or np.ptp(values) <= 1e-12 * max(1.0, abs(value)):
        return None
    shares = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if without_one is not None:
        shares = _corrected(shares, values, value, without_one)
    low, high = np.quantile(values, shares)
    return Confidence(float(low), float(high), "bootstrap")


def spread(values: Floats) -> float:
    """The standard deviation of resampled values."""
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _corrected(shares: Floats, values: Floats, value: float, without_one: Floats) -> Floats:
    """Shares of the bootstrap distribution to read, corrected for bias and skewness."""
    near = 1e-12 * max(1.0, abs(value))  # sums in another order differ in their last bits
    below = float(np.mean(values < value - near) + np.mean(np.abs(values - value) <= near) / 2)
    if not 0 < below < 1 or not np.isfinite(without_one).all():
        return shares
    distribution = NormalDist()
    bias = distribution.inv_cdf(below)
    deviations = without_one.mean() - without_one
    scale = float((deviations**2).sum()) ** 1.5
    skew = float((deviations**3).sum()) / (6 * scale) if scale > 0 else 0.0
    shifted = [bias + distribution.inv_cdf(share) for share in shares]
    return np.array([distribution.cdf(bias + z / max(1 - skew * z, 1e-6)) for z in shifted])
