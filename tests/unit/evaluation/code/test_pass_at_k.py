"""pass@k against its definition, the product of the paper that brought it, and a simulation."""

import random
from itertools import combinations

import numpy as np
import pytest

from fedloom.evaluation.tasks.code.pass_at_k import pass_at_k


@pytest.mark.parametrize("n", range(1, 8))
def test_it_is_the_share_of_the_draws_of_k_that_have_a_pass(n: int) -> None:
    for c in range(n + 1):
        answers = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            draws = [any(draw) for draw in combinations(answers, k)]
            assert pass_at_k(n, c, k) == pytest.approx(sum(draws) / len(draws), abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(20, 3, 10), (200, 1, 100), (200, 150, 10), (1000, 7, 100)])
def test_it_is_the_product_of_the_paper(n: int, c: int, k: int) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)), abs=1e-12)


def test_it_is_unbiased() -> None:
    """A model that passes with probability 0.3 has pass@5 = 1 - 0.7^5, on average over many runs of 10 answers."""
    drawn = random.Random(0)
    runs = [pass_at_k(10, sum(drawn.random() < 0.3 for _ in range(10)), 5) for _ in range(20_000)]
    assert np.mean(runs) == pytest.approx(1 - 0.7**5, abs=4 * np.std(runs) / len(runs) ** 0.5)


@pytest.mark.parametrize(("n", "c", "k"), [(1, 0, 2), (3, 4, 1), (3, 1, 0), (3, -1, 1)])
def test_what_is_undefined_is_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="undefined"):
        pass_at_k(n, c, k)
