"""Two models on the same items."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from fedloom.evaluation.statistics.intervals import bonett_price, bootstrap
from fedloom.evaluation.statistics.pairs import Difference, difference_of, mcnemar
from fedloom.evaluation.tasks.base import Outcome, TaskMetric
from tests.unit.evaluation.scored import ACC, LABELS, LENGTHS, MACRO, Scored, labelled, right_or_wrong


def difference(first: list[Outcome], second: list[Outcome], metric: TaskMetric = ACC, seed: int = 0) -> Difference:
    return difference_of(Scored(metric), metric, first, second, seed)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (1, 0), (3, 9), (5, 5), (40, 61), (900, 1100), (0, 14_000)])
def test_mcnemars_p_is_the_exact_binomial(lost: int, won: int) -> None:
    expected = binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


def test_the_difference_of_two_accuracies() -> None:
    first = right_or_wrong([1, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    second = right_or_wrong([1, 0, 1, 1, 1, 1, 1, 0, 0, 1])
    found = difference(first, second)
    assert found.value == pytest.approx(0.4)
    assert found.n == 10
    assert found.p == pytest.approx(binomtest(1, 6).pvalue)  # one lost, five won
    assert found.confidence is not None
    assert found.confidence.low < 0.4 < found.confidence.high


def test_pairing_is_narrower_than_two_models_apart() -> None:
    """Items that both models find hard say nothing of the difference."""
    generator = np.random.default_rng(0)
    hard = generator.random(500)
    first, second = (np.clip(hard + generator.normal(0, 0.02, 500), 0, 1) for _ in range(2))
    found = difference(right_or_wrong(first.tolist()), right_or_wrong(second.tolist()))
    assert found.p is None  # neither right nor wrong
    assert found.confidence is not None
    apart = 2 * 1.96 * math.sqrt(first.var() / 500 + second.var() / 500)
    assert found.confidence.high - found.confidence.low < apart / 5


def test_items_are_paired_by_id_and_not_by_place() -> None:
    outcomes = right_or_wrong([1, 0, 0, 1, 1])
    found = difference(outcomes, outcomes[::-1])
    assert (found.value, found.p) == (0.0, 1.0)


@pytest.mark.parametrize(("first", "second", "low", "high"), [(0, 0, -0.126, 0.126), (0, 1, 0.735, 1.0)])
def test_pairs_that_all_differ_alike_have_an_interval(first: int, second: int, low: float, high: float) -> None:
    """By hand: 20 pairs, (1 + n) / 22 of each kind, ± 1.96 of the standard error over 22 pairs."""
    found = difference(right_or_wrong([first] * 20), right_or_wrong([second] * 20))
    assert found.confidence is not None
    assert (found.confidence.low, found.confidence.high) == pytest.approx((low, high), abs=6e-4)
    assert found.confidence.method == "bonett-price"


def test_the_interval_of_paired_shares_covers_95_percent() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((2000, 20)) < 0.1, generator.random((2000, 20)) < 0.2
    covered = []
    for one, other in zip(first, second, strict=True):
        found = bonett_price(int((one & ~other).sum()), int((other & ~one).sum()), 20)
        covered.append(found.low <= 0.1 <= found.high)
    assert np.mean(covered) >= 0.94


def test_only_items_that_count_for_both_are_compared() -> None:
    first, second = right_or_wrong([1, 0, 1, 1]), right_or_wrong([1, 1, 1])
    second = [*second, Outcome("9", "", {"acc": 1.0})]
    first[2] = Outcome("2", "", problem="needs 4096 positions")
    found = difference(first, second)
    assert (found.n, found.value) == (2, 0.5)


def test_models_without_a_common_item_are_not_compared() -> None:
    found = difference(right_or_wrong([1]), [Outcome("9", "", {"acc": 1.0})])
    assert (found.value, found.p, found.not_compared) == (None, None, "no item counts for both")


def test_items_that_were_asked_otherwise_are_counted() -> None:
    first = [replace(each, prompt_sha256="a") for each in right_or_wrong([1, 0, 1])]
    second = [replace(each, prompt_sha256="b" if each.item == "1" else "a") for each in first]
    assert difference(first, second).n_asked_otherwise == 1


def test_the_difference_of_two_f1s() -> None:
    generator = np.random.default_rng(0)
    true = generator.choice(LABELS, size=400)
    guesses = [np.where(generator.random(400) < share, true, "neutral") for share in (0.4, 0.6)]
    first, second = (labelled(list(zip(true.tolist(), guess.tolist(), strict=True))) for guess in guesses)
    found = difference(first, second, MACRO)
    expected = [f1_score(true, guess, labels=LABELS, average="macro") for guess in guesses]
    assert found.value == pytest.approx(expected[1] - expected[0])
    assert found.confidence is not None
    assert 0 < found.confidence.low < expected[1] - expected[0] < found.confidence.high
    assert found == difference(first, second, MACRO)


def test_the_difference_of_a_metric_of_the_corpus() -> None:
    sizes = np.random.default_rng(0).integers(5, 15, size=60)
    first = [Outcome(str(n), "", texts=("x" * int(size), "y" * 10)) for n, size in enumerate(sizes)]
    second = [Outcome(str(n), "", texts=("x" * (int(size) + n % 3), "y" * 10)) for n, size in enumerate(sizes)]
    found = difference(first, second, LENGTHS)
    assert found.value == pytest.approx(0.1)
    assert found.confidence is not None
    assert 0.07 < found.confidence.low < 0.1 < found.confidence.high < 0.13


def test_several_samples_of_an_item_are_paired_by_item() -> None:
    first = [*right_or_wrong([1, 0, 0]), *right_or_wrong([1, 1, 0])]
    second = right_or_wrong([1, 1, 0])
    found = difference(first, second)
    assert found.value == pytest.approx(2 / 3 - 3 / 6)
    assert (found.n, found.p) == (3, None)


def test_the_interval_of_a_difference_covers_95_percent() -> None:
    generator = np.random.default_rng(0)
    covered = []
    for seed in range(400):
        shared = generator.random(200) < 0.5
        first = np.where(shared, 1, generator.random(200) < 0.3)
        second = np.where(shared, 1, generator.random(200) < 0.5)
        rows = (second - first).astype(float)[:, None]
        found, _ = bootstrap(rows, lambda total: total[..., 0] / 200, seed, n_resamples=1000)
        assert found is not None
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97
