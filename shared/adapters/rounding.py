"""Rounding of float32 to what travels: bfloat16, and int8 by blocks. Bits and exact operations only, so every machine
rounds alike.

    bfloat16   the upper half of a float32, rounded to the nearest, ties to even
    int8       q = round(x / s), ties to even, with a scale s = max |x| / 127 for each block of 256 values along the
               vector (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861, section
               2.1, with steps of equal size). The last block may be shorter. x' = s q, in float32.

Values must be finite. A value within half a step of the largest float32 may round to infinity; whoever rounds looks at
what came out.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

BLOCK = 256
"""Values that share a scale: 1.016 bytes a value."""
LARGEST = 127
"""Largest magnitude of q. −128 is not used, so that both signs have the same steps."""


def to_bfloat16(values: Array) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 of each value, with the shape of *values*."""
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(bits: NDArray[np.uint16]) -> Array:
    """The values of bits, exactly."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def n_blocks(size: int) -> int:
    """How many blocks, and scales, a vector of so many values has."""
    return -(-size // BLOCK)


def to_int8(values: Array) -> tuple[NDArray[np.int8], Array]:
    """The whole numbers, with the shape of *values*, and the scales of the blocks, (n_blocks,).

    A block of zeros, or of values too small for a scale (below 9e-44), has the scale 0 and stays 0.
    """
    blocks = np.zeros((n_blocks(values.size), BLOCK), np.float32)
    blocks.reshape(-1)[: values.size] = values.reshape(-1)
    scales = np.abs(blocks).max(axis=1) / np.float32(LARGEST)
    np.divide(blocks, scales[:, np.newaxis], out=blocks, where=scales[:, np.newaxis] > 0)
    # a scale near the smallest float32 is coarse, so a quotient may be beyond 127
    whole = np.clip(np.rint(blocks, out=blocks), -LARGEST, LARGEST).astype(np.int8)
    return whole.reshape(-1)[: values.size].reshape(values.shape), scales


def from_int8(whole: NDArray[np.int8], scales: Array, first: int = 0) -> Array:
    """The values of consecutive whole numbers of a vector, with their shape.

    Args:
        whole: numbers of the vector, from *first* on.
        scales: of all blocks of the vector.
        first: how many numbers of the vector come before them.
    """
    begin, end = first // BLOCK, n_blocks(first + whole.size)
    of_each = np.repeat(scales[begin:end], BLOCK)[first - begin * BLOCK :][: whole.size]
    return _scaled(whole, of_each.reshape(whole.shape))


def from_int8_at(whole: NDArray[np.int8], scales: Array, positions: NDArray[np.int64]) -> Array:
    """The values of whole numbers at any positions of the vector, with their shape."""
    return _scaled(whole, scales[positions // BLOCK])


def _scaled(whole: NDArray[np.int8], of_each: Array) -> Array:
    with np.errstate(over="ignore"):  # a damaged or hostile file; whoever reads looks at what came out
        return whole.astype(np.float32) * of_each
