"""Which rows a client trains on in a round, and the seed of everything else random in it."""

import numpy as np
from numpy.typing import NDArray


def rows_of_round(n_rows: int, need: int, *, seed: int, round_number: int, client_number: int) -> NDArray[np.int64]:
    """The rows of a round, in training order, shape (need,).

    A client's rows are one endless sequence of permutations of all of them; round r (from 1) takes the r-th stretch of
    *need*. So no row comes again before all have come, and the choice needs no memory of earlier rounds. Raises
    ValueError if there are no rows.
    """
    if n_rows < 1:
        message = "there are no rows to draw from"
        raise ValueError(message)
    start, end = (round_number - 1) * need, round_number * need
    epochs = range(start // n_rows, (end - 1) // n_rows + 1)
    drawn = np.concatenate([np.random.default_rng((seed, client_number, e)).permutation(n_rows) for e in epochs])
    offset = start - epochs[0] * n_rows
    return drawn[offset : offset + need]


def seed_of_round(*, seed: int, round_number: int, client_number: int) -> int:
    """The seed of one client's training in one round, below 2**31: dropout, and whatever else a library draws."""
    return int(np.random.SeedSequence((seed, round_number, client_number)).generate_state(1)[0] >> 1)
