"""Adapter 0: the values that an adapter has before training, computed from a seed and the names of its tensors.

Every machine and every version of a library gives the same bytes, so each owner can compute adapter 0 anew and compare.
A factor B is zero. A factor A, (r, in), is uniform between ±1/√in, the distribution that PEFT draws it from. Its value
number i, counted from 0 row by row, is

    a_i = (2 k_i + 1 - 2^24) · s        s = float32(1 / √in) · 2^-24
    k_i = w_i >> 40                     the upper 24 bits of a word, so the integer in brackets is exact in float32
    w_i = 64-bit word number i of Philox 4x64-10 (Salmon et al. 2011), whose counter begins at 1 and whose key is the
          first 16 bytes of SHA-256 of a fixed text, the seed and the tensor's name, each after its length

√ and ÷ are in float64; these, the rounding of 1/√in to float32 and the product are correctly rounded, as IEEE 754
demands. No tensor depends on another one, and A of a smaller rank is the first rows of A of a larger one.

Raw bits of Philox, since NumPy guarantees that their stream never changes; it guarantees no distribution that its
generators make of bits, and PyTorch and PEFT guarantee nothing across versions.
"""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from shared.adapters.files import AdapterError, AdapterWriter, Array, Contract, TensorSpec
from shared.adapters.lora import factor_of
from shared.digest import sha256_of_parts

_DOMAIN = "fedloom adapter 0, version 1"
_BITS = 24
_BLOCK = 1 << 18
"""Words that are held at once: 2 MiB."""


def initial_values(tensor: str, shape: tuple[int, ...], seed: int) -> Array:
    """A tensor of adapter 0. Raises AdapterError if it is no factor of a linear layer."""
    found = factor_of(tensor)
    if found is None or len(shape) != 2:
        raise AdapterError("has no initial values, as it is not a factor of a linear layer", tensor)
    return _uniform(tensor, shape, seed) if found[1] == "A" else np.zeros(shape, np.float32)


def initial_tensors(adapter: Contract, seed: int) -> Iterator[tuple[str, Array]]:
    """The tensors of adapter 0 by name, sorted, one at a time. Raises AdapterError, see ``initial_values``.

    adapter: names and shapes; the values are float32 in any case.
    """
    for name, spec in sorted(adapter.tensors.items()):
        yield name, initial_values(name, spec.shape, seed)


def write_initial(target: Path | IO[bytes], adapter: Contract, seed: int) -> None:
    """Write adapter 0 as a canonical file, as ``AdapterWriter`` does. Raises AdapterError and OSError."""
    with AdapterWriter(target, _in_float32(adapter)) as writer:
        for name, values in initial_tensors(adapter, seed):
            writer.write(name, values)


def initial_sha256(adapter: Contract, seed: int) -> str:
    """The digest of the file that ``write_initial`` writes. Raises AdapterError, see ``initial_values``."""
    total = hashlib.sha256(_in_float32(adapter).header)
    for _, values in initial_tensors(adapter, seed):
        total.update(values.reshape(-1).astype("<f4", copy=False).data)
    return total.hexdigest()


def _in_float32(adapter: Contract) -> Contract:
    return Contract.of({name: TensorSpec("F32", spec.shape) for name, spec in adapter.tensors.items()})


def _uniform(tensor: str, shape: tuple[int, ...], seed: int) -> Array:
    """Factor A of this shape, (r, in)."""
    digest = bytes.fromhex(sha256_of_parts([_DOMAIN, str(seed), tensor]))
    words = np.random.Philox(key=np.frombuffer(digest[:16], "<u8").astype(np.uint64))
    scale = np.float32(1 / math.sqrt(shape[1])) * np.float32(2.0**-_BITS)
    values = np.empty(math.prod(shape), np.float32)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        upper = (words.random_raw(block.size) >> np.uint64(64 - _BITS)).astype(np.int64)
        block[:] = 2 * upper + (1 - (1 << _BITS))
        block *= scale
    return values.reshape(shape)
