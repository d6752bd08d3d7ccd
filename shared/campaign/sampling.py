"""Client sampling: the order of a round follows from the campaign's seed, the round number and the eligible clients."""

from collections.abc import Sequence

import numpy as np


def draw_order(seed: int, round_number: int, eligible: Sequence[int]) -> list[int]:
    """Return the eligible client numbers in drawing order; replacements come from further down the list.

    PCG64 seeded by (seed, round), over the client numbers in ascending order.
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, round_number))))
    return [int(number) for number in generator.permutation(sorted(eligible))]
