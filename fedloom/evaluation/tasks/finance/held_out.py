"""The rows that ``Dataset.train_test_split(test_size, seed=seed)`` of Hugging Face datasets holds out."""

import math
from collections.abc import Sequence

import numpy as np

from fedloom.evaluation.tasks.base import BadData, Item, Items
from fedloom.evaluation.tasks.files.source import Source


def held_out(n_rows: int, share: float, seed: int) -> list[int]:
    """Indices of the rows of the test, in its order.

    Args:
        n_rows: of the whole set, in the order of its file: in another order the test is another.
        share: of the rows, rounded up.
        seed: of numpy's ``default_rng``.
    """
    found: list[int] = np.random.default_rng(seed).permutation(n_rows)[: math.ceil(share * n_rows)].tolist()
    return found


def drawn(source: Source, rows: Sequence[Item], n_rows: int, share: float, seed: int) -> Items:
    """The test of a set of *n_rows* rows. Of fewer rows the draw is another, which is said. Raises BadData."""
    if len(rows) > n_rows:
        path = next(iter(source.digests))
        raise BadData(f"{path} has {len(rows):,} rows, and the published set {n_rows:,}: is it another split?")
    if len(rows) < n_rows:
        source.notes.append(
            f"drawn from {len(rows):,} of {n_rows:,} rows, so these are not the published test's, and may be among its "
            "training rows"
        )
    items = [rows[place] for place in held_out(len(rows), share, seed)]
    return source.items(items, len(held_out(n_rows, share, seed)))
