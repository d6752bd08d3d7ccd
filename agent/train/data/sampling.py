"""The rows that a client trains on in a round, and the seed of all other randomness in it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def sample_rows(n_rows: int, n_samples: int, *, seed: int, round_number: int, client_number: int) -> Rows:
    """The indices of a round's rows in training order, (n_samples,).

    A client's rows form one endless sequence of permutations of all of them. Round r, counted from 1, takes the r-th
    stretch of *n_samples*. So no row repeats before all have been used, and none repeats within a round that draws no
    more rows than there are: an owner's least number of distinct rows holds in each round. The choice needs no memory
    of earlier rounds. Raises ValueError if there are no rows.
    """
    if n_rows < 1:
        message = "there are no rows to draw from"
        raise ValueError(message)
    start, end = (round_number - 1) * n_samples, round_number * n_samples
    first, last = start // n_rows, (end - 1) // n_rows
    drawn = np.empty(n_samples, np.int64)
    # one epoch at a time: many clients of few rows pass over them thousands of times
    for e, rows in _epochs(n_rows, n_samples, first, last, (seed, client_number)):
        begin, stop = max(start, e * n_rows), min(end, (e + 1) * n_rows)
        drawn[begin - start : stop - start] = rows[begin - e * n_rows : stop - e * n_rows]
    return drawn


def _epochs(n_rows: int, n_samples: int, first: int, last: int, seeds: tuple[int, int]) -> Iterator[tuple[int, Rows]]:
    """The epochs *first* to *last*, each with its order of the rows, (n_rows,).

    Where a round begins in one epoch and ends in the next, the next one begins with rows that the round does not have.
    So an epoch's order depends on the one before it, back to an epoch with which a round begins, as the first one does.
    """
    is_wrapped = n_samples <= n_rows  # otherwise a round has all rows anyway
    origin = first
    while is_wrapped and origin * n_rows % n_samples:
        origin -= 1
    before: Rows | None = None
    for e in range(origin, last + 1):
        rows = np.random.default_rng((*seeds, e)).permutation(n_rows)
        n_tail = e * n_rows % n_samples if is_wrapped else 0
        if before is not None and n_tail:
            rows = _begun_without(before[n_rows - n_tail :], rows, n_samples - n_tail)
        if e >= first:
            yield e, rows
        before = rows


def _begun_without(tail: Rows, rows: Rows, n_head: int) -> Rows:
    """The *rows* in their order, but with the first *n_head* that are not in *tail* before all others."""
    is_in_head = np.ones(len(rows), np.bool_)
    is_in_head[tail] = False
    head = rows[is_in_head[rows]][:n_head]
    is_in_head[:] = False
    is_in_head[head] = True
    return np.concatenate([head, rows[~is_in_head[rows]]])


def round_seed(*, seed: int, round_number: int, client_number: int) -> int:
    """The seed of one client's training in one round, below 2**31: for dropout, and all that libraries draw."""
    return int(np.random.SeedSequence((seed, round_number, client_number)).generate_state(1)[0] >> 1)


def sorted_in_steps(indices: Rows, lengths: NDArray[np.int64], batch_size: int) -> Rows:
    """The rows of each optimizer step by length, so that the rows of a micro-batch need little padding.

    A step's loss is that of all its rows, in whatever order.

    Args:
        indices: of the rows in training order, (steps · batch_size,).
        lengths: of all n rows, in tokens, (n,).
        batch_size: rows of a step.
    """
    steps = indices.reshape(-1, batch_size)
    order = np.argsort(lengths[steps], axis=1, kind="stable")  # (steps, batch_size)
    return np.take_along_axis(steps, order, axis=1).reshape(-1)
