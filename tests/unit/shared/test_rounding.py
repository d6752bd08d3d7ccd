"""bfloat16 and int8: values by hand, bounds, and the ends of tensors."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.adapters.rounding import (
    BLOCK,
    LARGEST,
    Array,
    from_bfloat16,
    from_int8,
    n_blocks,
    to_bfloat16,
    to_int8,
)

FLOAT32 = np.finfo(np.float32)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def float32(bits: int) -> float:
    [value] = struct.unpack(">f", bits.to_bytes(4, "big"))
    return float(value)


# the lower half of the first number is dropped; a tie goes to the even upper half
@pytest.mark.parametrize(
    ("bits", "upper"),
    [
        (0x3F800000, 0x3F80),  # 1
        (0x3F807FFF, 0x3F80),  # below the tie
        (0x3F808000, 0x3F80),  # the tie between 1 and 1 + 2⁻⁷: 0x3F80 is even
        (0x3F808001, 0x3F81),  # above it
        (0x3F818000, 0x3F82),  # the next tie goes up: 0x3F81 is odd
        (0xBF808000, 0xBF80),  # the same with a minus
        (0xBF818000, 0xBF82),
        (0x3FFFC000, 0x4000),  # into the next binade
        (0x00000000, 0x0000),
        (0x80000000, 0x8000),  # −0
        (0x00000001, 0x0000),  # the smallest float32
        (0x00018000, 0x0002),  # a tie of subnormal numbers
        (0x7F7F0000, 0x7F7F),  # the largest bfloat16
        (0x7F7F7FFF, 0x7F7F),
        (0x7F7F8000, 0x7F80),  # beyond it: infinity, which whoever rounds refuses
        (0x7F7FFFFF, 0x7F80),
    ],
)
def test_bfloat16_is_the_nearest_and_ties_go_to_even(bits: int, upper: int) -> None:
    value = np.array([float32(bits)], np.float32)
    assert hex(int(to_bfloat16(value)[0])) == hex(upper)
    assert from_bfloat16(to_bfloat16(value)).tobytes()[2:] == upper.to_bytes(2, "little")


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=FINITE))
@settings(max_examples=200, deadline=None)
def test_bfloat16_is_off_by_half_a_step_at_most(values: Array) -> None:
    arrived = from_bfloat16(to_bfloat16(values))
    inside = np.isfinite(arrived)
    bound = np.maximum(np.abs(values.astype(np.float64)) * 2.0**-8, 2.0**-134)
    assert (np.abs(arrived.astype(np.float64) - values)[inside] <= bound[inside]).all()
    assert (to_bfloat16(arrived) == to_bfloat16(values)).all(), "rounding again changes nothing"


@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK - 7])
def test_int8_by_blocks_at_every_end_of_a_tensor(size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    values[-1] = 1000.0  # in the last block alone
    whole, scales = to_int8(values)
    assert (whole.dtype, whole.shape, scales.shape) == (np.dtype(np.int8), (size,), (n_blocks(size),))
    for number, scale in enumerate(scales):
        block = slice(number * BLOCK, (number + 1) * BLOCK)
        assert scale == np.float32(np.abs(values[block]).max()) / np.float32(127)
        assert np.abs(whole[block]).max() == LARGEST
        by_hand = whole[block].astype(np.float32) * scale
        np.testing.assert_array_equal(from_int8(whole, scales)[block], by_hand)
        assert (np.abs(by_hand - values[block]) <= 0.5001 * scale).all()


def test_int8_by_hand() -> None:
    values = np.array([[-127.0, 0.5, 1.5], [2.5, -2.5, 126.49]], np.float32)
    whole, scales = to_int8(values)
    assert scales.tolist() == [1.0]
    assert whole.tolist() == [[-127, 0, 2], [2, -2, 126]]  # ties to even
    np.testing.assert_array_equal(from_int8(whole, scales), [[-127, 0, 2], [2, -2, 126]])


def test_a_block_of_zeros_and_one_of_numbers_too_small_for_a_scale_stay_zero() -> None:
    values = np.zeros(2 * BLOCK, np.float32)
    values[BLOCK:] = float32(1)
    whole, scales = to_int8(values)
    assert scales.tolist() == [0.0, 0.0]
    assert not whole.any()
    assert not from_int8(whole, scales).any()


def test_subnormal_numbers_stay_within_the_range() -> None:
    values = np.array([float32(190), float32(95), float32(1)], np.float32)  # the scale is 1.5 of the smallest steps
    whole, scales = to_int8(values)
    assert np.abs(whole).max() <= LARGEST
    assert np.isfinite(from_int8(whole, scales)).all()


def test_huge_values_are_finite_or_seen_to_overflow() -> None:
    for value in (1e38, 3e38, float(FLOAT32.max)):
        whole, scales = to_int8(np.array([value, -value], np.float32))
        assert whole.tolist() == [127, -127]
        assert abs(float(from_int8(whole, scales)[0]) / value - 1) < 1e-6 or np.isinf(from_int8(whole, scales)).all()


@given(
    arrays.arrays(np.float32, st.integers(1, 3 * BLOCK), elements=FINITE),
    st.integers(0, 3 * BLOCK),
    st.integers(0, 3 * BLOCK),
)
@settings(max_examples=100, deadline=None)
def test_a_part_of_a_tensor_is_decoded_as_in_the_whole(values: Array, begin: int, length: int) -> None:
    whole, scales = to_int8(values)
    part = whole[begin : begin + length]
    expected = from_int8(whole, scales)[begin : begin + length]
    assert from_int8(part, scales, begin).tobytes() == expected.tobytes()
