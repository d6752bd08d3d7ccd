"""Several threads on one list of work."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from coordinator.process.threads import one_blas_thread

T = TypeVar("T")
R = TypeVar("R")


def in_threads(n_threads: int, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What *work* returns for the items, in any order. The calling thread is one of the threads.

    Threads take the items in order. After an error they take no further one, and the error of the first item that has
    one is raised, whatever the number of threads.
    """
    left = deque(enumerate(items))
    results: list[R] = []
    errors: list[tuple[int, BaseException]] = []

    def take() -> None:
        while left:
            try:
                number, item = left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                results.append(work(item))
            except BaseException as error:  # noqa: BLE001 - raised below, in the calling thread
                errors.append((number, error))
                left.clear()

    with ThreadPoolExecutor(max(1, n_threads - 1), "aggregation", one_blas_thread) as pool:
        for _ in range(min(n_threads, len(left)) - 1):
            pool.submit(take)
        take()
    if errors:
        raise min(errors, key=lambda each: each[0])[1]
    return results
