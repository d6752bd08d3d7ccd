"""The rows that a client trains on in a round, and the seed of all other randomness in it."""

import numpy as np
from numpy.typing import NDArray


def sample_rows(n_rows: int, n_samples: int, *, seed: int, round_number: int, client_number: int) -> NDArray[np.int64]:
    """The indices of a round's rows in training order, (n_samples,).

    A client's rows form one endless sequence of permutations of all of them. Round r, counted from 1, takes the r-th
    stretch of *n_samples*. So no row repeats before all have been used, and the choice needs no memory of earlier
    rounds. Raises ValueError if there are no rows.
    """
    if n_rows < 1:
        message = "there are no rows to draw from"
        raise ValueError(message)
    start, end = (round_number - 1) * n_samples, round_number * n_samples
    epochs = range(start // n_rows, (end - 1) // n_rows + 1)
    drawn = np.concatenate([np.random.default_rng((seed, client_number, e)).permutation(n_rows) for e in epochs])
    offset = start - epochs[0] * n_rows
    return drawn[offset : offset + n_samples]


def round_seed(*, seed: int, round_number: int, client_number: int) -> int:
    """The seed of one client's training in one round, below 2**31: for dropout, and all that libraries draw."""
    return int(np.random.SeedSequence((seed, round_number, client_number)).generate_state(1)[0] >> 1)
