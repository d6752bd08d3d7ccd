"""Who is drawn for a round: a function of the campaign's seed and the round's number, and of nothing else."""

from collections.abc import Sequence

import numpy as np


def draw_order(seed: int, round_number: int, eligible: Sequence[int]) -> list[int]:
    """The eligible client numbers in the order in which they are drawn; replacements come from further down.

    PCG64 seeded by (seed, round), over the client numbers in ascending order.
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, round_number))))
    return [int(number) for number in generator.permutation(sorted(eligible))]
