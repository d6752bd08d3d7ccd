"""Adapter 0: its values are a function of the seed and the tensors' names alone, and are the same everywhere."""

import hashlib
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.adapters.files import AdapterError, AdapterFile, Contract, TensorSpec
from shared.adapters.initial import initial_sha256, initial_tensors, initial_values, write_initial
from shared.digest import sha256_file

A, B = "base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"
OTHER = "base_model.model.k.lora_A.weight"
SHAPES = {A: (4, 6), B: (5, 4), OTHER: (4, 6)}
CONTRACT = Contract.of({name: TensorSpec("F32", shape) for name, shape in SHAPES.items()})

_M, _W = (0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_WORD = (1 << 64) - 1


def philox(counter: list[int], key: tuple[int, int]) -> list[int]:
    """A block of Philox 4x64-10, written from Salmon et al. 2011."""
    c, (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = _M[0] * c[0], _M[1] * c[2]
        c = [(p1 >> 64) ^ c[1] ^ k0, p1 & _WORD, (p0 >> 64) ^ c[3] ^ k1, p0 & _WORD]
        k0, k1 = (k0 + _W[0]) & _WORD, (k1 + _W[1]) & _WORD
    return c


def key_of(tensor: str, seed: int) -> tuple[int, int]:
    parts = ("fedloom adapter 0, version 1", str(seed), tensor)
    text = b"".join(len(part).to_bytes(8, "big") + part.encode() for part in parts)
    first, second = struct.unpack("<2Q", hashlib.sha256(text).digest()[:16])
    return first, second


def to_float32(value: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


def value_of(word: int, in_features: int) -> float:
    scale = to_float32(1 / math.sqrt(in_features)) * 2.0**-24
    return to_float32((2 * (word >> 40) + 1 - 2**24) * scale)  # the product has 48 bits, so only this rounds it


def by_hand(tensor: str, shape: tuple[int, int], seed: int) -> list[float]:
    """Factor A from the formula, in Python's own numbers."""
    n = shape[0] * shape[1]
    blocks = (philox([number, 0, 0, 0], key_of(tensor, seed)) for number in range(1, n // 4 + 2))
    return [value_of(word, shape[1]) for block in blocks for word in block][:n]


def test_the_test_s_own_philox_gives_the_published_block() -> None:
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]  # of Random123
    assert philox([0, 0, 0, 0], (0, 0)) == expected


@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (3, 128), (2, 3072), (5, 7)])
@pytest.mark.parametrize("seed", [0, 7, 2**63])
def test_factor_a_is_what_the_formula_gives(shape: tuple[int, int], seed: int) -> None:
    assert initial_values(A, shape, seed).reshape(-1).tolist() == by_hand(A, shape, seed)


def test_long_factors_continue_across_blocks() -> None:
    whole = initial_values(A, (600, 1024), 3)
    assert whole.size > 2 * (1 << 18)
    np.testing.assert_array_equal(whole[:20], initial_values(A, (20, 1024), 3), "of a smaller rank")
    last = philox([whole.size // 4, 0, 0, 0], key_of(A, 3))[-1]
    assert float(whole[-1, -1]) == value_of(last, 1024)


@pytest.mark.parametrize(
    ("seed", "digest"),
    [
        (0, "85184b88ce81a1b31a53af441e5ee79ec2aa334a3e48ef3d336904ba4eca091f"),
        (7, "5649b1a5db598e142b5e886586f97c48a3271853a02693e77f0c64233bf4f261"),
        (9007199254740993, "abe1fd4a657faef145184c357705dfa7f3370ce7094085bb5e175e993395fd47"),
    ],
)
def test_the_digest_of_an_adapter_never_changes(seed: int, digest: str) -> None:
    assert initial_sha256(CONTRACT, seed) == digest


def test_values_depend_on_seed_and_name_and_on_nothing_else() -> None:
    alone = dict(initial_tensors(Contract({A: CONTRACT.tensors[A]}), 7))
    together = dict(initial_tensors(CONTRACT, 7))
    reverse = dict(initial_tensors(Contract(dict(reversed(CONTRACT.tensors.items()))), 7))
    assert list(together) == list(reverse) == sorted(SHAPES)
    for name in SHAPES:
        np.testing.assert_array_equal(together[name], reverse[name])
    np.testing.assert_array_equal(alone[A], together[A])
    assert not together[B].any()
    assert not np.isin(together[A], together[OTHER]).any(), "another name"
    assert not np.isin(together[A], initial_values(A, (4, 6), 8)).any(), "another seed"
    assert not np.isin(together[A], initial_values(A.replace("q", "q.7"), (4, 6), 7)).any()


@pytest.mark.parametrize("in_features", [3, 576, 4096])
def test_factor_a_is_uniform_with_the_bounds_of_peft(in_features: int) -> None:
    n = 600_000
    values = initial_values(A, (n // in_features, in_features), 11).reshape(-1).astype(np.float64)
    scaled = values * math.sqrt(in_features)
    assert np.abs(values).max() <= np.float32(1 / math.sqrt(in_features))
    assert np.abs(scaled).max() > 0.9999
    assert abs(scaled.mean()) < 4 * math.sqrt(1 / 3 / scaled.size)
    assert scaled.var() == pytest.approx(1 / 3, rel=0.01)
    counts, _ = np.histogram(scaled, bins=100, range=(-1, 1))
    expected = scaled.size / 100
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 99 + 5 * math.sqrt(2 * 99)
    neighbours = np.corrcoef(scaled[:-1], scaled[1:])[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(scaled.size)


def test_the_written_file_has_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    halves = Contract.of({name: TensorSpec("BF16", shape) for name, shape in SHAPES.items()})
    write_initial(path, CONTRACT, 7)
    assert sha256_file(path) == initial_sha256(CONTRACT, 7) == initial_sha256(halves, 7)
    with AdapterFile(path) as file:
        assert file.contract == CONTRACT
        for name, values in initial_tensors(CONTRACT, 7):
            np.testing.assert_array_equal(file.read(name), values)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("base_model.model.embed.lora_embedding_A", (4, 6)),
        ("base_model.model.q.lora_magnitude_vector.weight", (4,)),
        ("base_model.model.q.weight", (4, 6)),
        (A, (4, 6, 1)),
    ],
)
def test_a_tensor_that_is_no_factor_has_no_initial_values(name: str, shape: tuple[int, ...]) -> None:
    contract = Contract.of({name: TensorSpec("F32", shape)})
    with pytest.raises(AdapterError, match="has no initial values, as it is not a factor of a linear layer"):
        initial_sha256(contract, 7)


_IN_A_FRESH_PROCESS = """
import numpy as np
np.random.seed(1)
np.random.default_rng(2).random(5)
from shared.adapters.files import Contract, TensorSpec
from shared.adapters.initial import initial_sha256
contract = Contract.of({"m.lora_A.weight": TensorSpec("F32", (8, 40000)), "m.lora_B.weight": TensorSpec("F32", (9, 8))})
with np.errstate(all="raise"):
    print(initial_sha256(contract, 7))
"""


def test_a_fresh_process_gives_the_same_bytes() -> None:
    shapes = {"m.lora_A.weight": (8, 40000), "m.lora_B.weight": (9, 8)}
    here = initial_sha256(Contract.of({name: TensorSpec("F32", shape) for name, shape in shapes.items()}), 7)
    for threads, hash_seed in (("1", "0"), ("3", "99")):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", _IN_A_FRESH_PROCESS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == here
