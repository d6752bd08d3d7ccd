"""Work in several threads: all of it, and the error that one thread would have met first."""

import threading

import pytest

from coordinator.engine.aggregation.threads import in_threads

NUMBERS = [1, 2, 3, 7, 50]


@pytest.mark.parametrize("n_threads", NUMBERS)
def test_every_item_is_worked_on_once(n_threads: int) -> None:
    assert sorted(in_threads(n_threads, lambda n: n * n, range(20))) == [n * n for n in range(20)]
    assert in_threads(n_threads, lambda n: n, []) == []


def test_the_items_are_worked_on_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=60)
    assert sorted(in_threads(3, lambda _: together.wait(), range(3))) == [0, 1, 2]


@pytest.mark.parametrize("n_threads", NUMBERS)
def test_the_error_of_the_first_item_that_has_one_is_raised_and_little_follows(n_threads: int) -> None:
    begun: list[int] = []
    failing = threading.Event()

    def work(n: int) -> None:
        begun.append(n)
        if n == 3:
            failing.wait(0.05)  # later items fail earlier
            raise KeyError(n)
        if n > 3:
            failing.set()
            raise ValueError(n)

    with pytest.raises(KeyError, match="3"):
        in_threads(n_threads, work, range(1000))
    assert len(begun) <= 4 + n_threads
