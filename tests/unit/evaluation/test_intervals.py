"""Intervals against scipy's, and by simulation."""

import time

import numpy as np
import pytest
from scipy import stats

from fedloom.evaluation.statistics.intervals import bootstrap, normal, resampled_sums, wilson


@pytest.mark.parametrize(("n_right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (729, 1212), (1, 14042)])
def test_wilson_is_scipys(n_right: int, n: int) -> None:
    expected = stats.binomtest(n_right, n).proportion_ci(0.95, method="wilson")
    found = wilson(n_right, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low < found.high <= 1


def test_a_normal_interval_has_1_96_standard_errors_on_each_side() -> None:
    found = normal(0.5, 0.1)
    assert (found.low, found.high) == pytest.approx((0.304, 0.696), abs=1e-4)


@pytest.mark.parametrize("shape", ["skewed", "few values"])
def test_the_bootstrap_of_a_mean_is_scipys(shape: str) -> None:
    generator = np.random.default_rng(3)
    values = generator.exponential(size=600) if shape == "skewed" else generator.choice([0.0, 0.5, 1.0], size=600)
    expected = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=10_000, rng=np.random.default_rng(1))
    found, stderr = bootstrap(values[:, None], lambda total: total[..., 0] / len(values), seed=0)
    assert found is not None
    # a quantile of 10,000 resamples has an error of its own of about 3 % of the standard error
    near = 0.1 * stderr
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=near)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=near)
    assert stderr == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.03)


def test_resamples_are_the_same_by_seed_and_others_by_another() -> None:
    rows = np.random.default_rng(0).random((900, 1))
    first, again, other = (resampled_sums(rows, seed, 50) for seed in (4, 4, 5))
    assert (first == again).all()
    assert (first != other).all()


def test_drawing_counts_and_drawing_indices_have_one_distribution() -> None:
    """Rows of few kinds are resampled by counts; a column that makes each row its own kind forces indices."""
    values = np.random.default_rng(0).integers(0, 3, size=800).astype(float)
    by_counts = resampled_sums(values[:, None], 1, 4000)[:, 0]
    by_indices = resampled_sums(np.stack([values, np.arange(800.0)], axis=1), 2, 4000)[:, 0]
    assert stats.ks_2samp(by_counts, by_indices).pvalue > 0.001


def test_items_that_are_all_alike_give_no_interval() -> None:
    found, stderr = bootstrap(np.full((30, 1), 0.7), lambda total: total[..., 0] / 30, seed=0)
    assert found is None
    assert stderr == pytest.approx(0, abs=1e-12)


def test_ten_thousand_resamples_of_fourteen_thousand_items_take_seconds() -> None:
    rows = np.random.default_rng(0).random((14_000, 1))
    started = time.process_time()
    found, _ = bootstrap(rows, lambda total: total[..., 0] / 14_000, seed=0)
    assert found is not None
    assert time.process_time() - started < 6  # 1 s on an idle core


N_SAMPLES = 2000
"""Samples per simulation: the standard error of a coverage of 95 % is then 0.5 %."""


def test_wilson_covers_95_percent() -> None:
    generator = np.random.default_rng(0)
    for share, n in [(0.33, 79), (0.6, 200), (0.9, 164), (0.5, 1212)]:
        found = [wilson(k, n) for k in generator.binomial(n, share, size=N_SAMPLES)]
        assert 0.93 <= np.mean([each.low <= share <= each.high for each in found]) <= 0.97


@pytest.mark.soak
@pytest.mark.parametrize("draw", ["even", "skewed"])
def test_the_bootstrap_covers_95_percent(draw: str) -> None:
    """With 600 resamples, the noise of the quantiles costs half a percent of coverage; 10,000 are used in earnest."""
    generator = np.random.default_rng(0)
    n, kinds, covered = 150, np.linspace(0, 1, 21), []
    weights = np.ones(21) if draw == "even" else 0.75 ** np.arange(21)
    weights /= weights.sum()
    for seed in range(N_SAMPLES):
        rows = generator.choice(kinds, p=weights, size=(n, 1))
        found, _ = bootstrap(rows, lambda total: total[..., 0] / n, seed, n_resamples=2000)
        assert found is not None
        covered.append(found.low <= kinds @ weights <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97
