"""Adapter files: safetensors, read through a memory map and written in one canonical form.

A canonical file has its tensors in sorted order, no metadata, and a header padded with spaces to a multiple of eight
bytes, so equal adapters have equal digests. This module parses the header itself instead of calling ``safetensors``: a
file from the network may give a false length, false offsets or false shapes, and no memory is allocated from them.

    AdapterFile      a checked file, read tensor by tensor
    AdapterWriter    writes a canonical file, tensor by tensor
    Contract         the names, shapes and dtypes that an update must have

``shared.adapters.vectors`` reads and writes the same files in ranges that need not end where a tensor does.
"""

import contextlib
import json
import math
import mmap
import os
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.adapters.rounding import from_bfloat16

Array = NDArray[np.float32]
Stored = NDArray[Any]
"""A tensor as a file holds it: float32, the bits of bfloat16 as uint16, or int8."""

MAX_HEADER_BYTES = 16 << 20
MAX_NAME_CHARACTERS = 500
MAX_DIMENSIONS = 8
_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1"}
"""The dtypes that are read, and numpy's for them; it has none for bfloat16."""
_WRITTEN = {np.dtype(np.uint16): "BF16", np.dtype(np.int8): "I8"}
"""The dtypes of arrays that are written as they are; all others are written as F32."""


class AdapterError(ValueError):
    """The file is not a usable adapter. ``tensor`` names the tensor at fault, or is None."""

    def __init__(self, reason: str, tensor: str | None = None) -> None:
        self.reason = reason
        self.tensor = tensor
        super().__init__(f"{tensor}: {reason}" if tensor else reason)


class NotFinite(AdapterError):
    """A tensor holds a NaN or an infinity."""


@dataclass(frozen=True)
class TensorSpec:
    """Dtype (``F32``, ``F16``, ``BF16``, and in updates ``I8``) and shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return np.dtype(_STORED[self.dtype]).itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class Contract:
    """The tensors that a file must have: names, in sorted order, to dtypes and shapes."""

    tensors: Mapping[str, TensorSpec]

    @classmethod
    def of(cls, tensors: Mapping[str, TensorSpec]) -> Self:
        return cls(dict(sorted(tensors.items())))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls.of({name: TensorSpec(dtype, tuple(shape)) for name, (dtype, shape) in json.loads(text).items()})

    def to_json(self) -> str:
        return json.dumps({name: [spec.dtype, list(spec.shape)] for name, spec in self.tensors.items()})

    def in_slots(self, slots: Iterable[str]) -> "Contract":
        """Return the contract of a file that holds every tensor once per slot, as float32 under ``slot/name``."""
        return Contract.of(
            {slot_name(slot, name): TensorSpec("F32", s.shape) for slot in slots for name, s in self.tensors.items()}
        )

    @cached_property
    def header_limit(self) -> int:
        """The largest header of a file with these tensors that is read: twice the canonical one, since another writer
        may order and space it differently, and metadata."""
        return 2 * len(self.header) + 4096

    @cached_property
    def header(self) -> bytes:
        """The bytes of a canonical file before its first tensor: the length of the header, and the header."""
        return _canonical_header(self)

    @cached_property
    def offsets(self) -> Mapping[str, int]:
        """Where the first byte of each tensor is in a canonical file."""
        sizes = (spec.n_bytes for spec in self.tensors.values())
        return dict(zip(self.tensors, accumulate(sizes, initial=len(self.header)), strict=False))

    @cached_property
    def n_values(self) -> int:
        """The numbers in all tensors together."""
        return sum(math.prod(spec.shape) for spec in self.tensors.values())

    @cached_property
    def file_bytes(self) -> int:
        """The exact size of a canonical file with these tensors."""
        return len(self.header) + sum(spec.n_bytes for spec in self.tensors.values())

    def check(self, file: "AdapterFile") -> None:
        """Raise AdapterError unless *file* has exactly these tensors, shapes and dtypes, and all values are finite."""
        self.check_tensors(file.tensors)
        for name in self.tensors:
            check_finite(name, file.read(name))

    def check_tensors(self, tensors: Mapping[str, TensorSpec]) -> None:
        """Raise AdapterError unless *tensors* are exactly these, with these shapes and dtypes."""
        missing = [name for name in self.tensors if name not in tensors]
        if missing:
            raise AdapterError(f"missing ({len(missing)} of {len(self.tensors)} tensors are)", missing[0])
        for name in tensors:
            if name not in self.tensors:
                raise AdapterError("not part of this campaign's adapter", name)
        for name, expected in self.tensors.items():
            actual = tensors[name]
            if actual.shape != expected.shape:
                raise AdapterError(f"shape {list(actual.shape)}, expected {list(expected.shape)}", name)
            if actual.dtype != expected.dtype:
                raise AdapterError(f"dtype {actual.dtype}, expected {expected.dtype}", name)


def slot_name(slot: str, name: str) -> str:
    """The tensor name of *name* in *slot*, in a file with several slots."""
    return f"{slot}/{name}"


def check_finite(name: str, values: Array) -> None:
    """Raise NotFinite if *values* holds a NaN or an infinity.

    A finite dot product of the tensor with itself proves that every value is finite, at memory speed. Large values
    overflow too, so an infinite dot product leads to the slower check of every value.
    """
    flat = values.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.einsum("i,i->", flat, flat)):  # no BLAS: its threads spin for such short products
            return
    if not np.isfinite(flat).all():
        kind = "NaN" if np.isnan(flat).any() else "infinity"
        raise NotFinite(f"holds {kind}", name)


def in_float32(raw: Stored, dtype: str) -> Array:
    """Values as a file holds them in F32, F16 or BF16, as float32; those in F32 are not copied."""
    return from_bfloat16(raw) if dtype == "BF16" else raw.astype(np.float32, copy=False)


class AdapterFile:
    """A safetensors file with a checked header, read through a memory map.

    Use it as a context manager. ``tensors`` maps names to specs in the order of the file, and ``offsets`` to where the
    first byte of the tensor is. Raises AdapterError if the file is truncated or oversized, or if its header is false or
    has more than *max_header_bytes*.

    like: a contract that the file is expected to have. The header of a canonical file with it is compared as a whole in
    place of being parsed, and the two mappings are the contract's own. Any other file is read as without it.
    """

    dtypes: ClassVar[tuple[str, ...]] = ("F32", "F16", "BF16")
    """The dtypes that its tensors may have."""

    def __init__(
        self,
        path: Path,
        max_header_bytes: int = MAX_HEADER_BYTES,
        *,
        like: Contract | None = None,
    ) -> None:
        self.path = path
        self._max_header_bytes = min(max_header_bytes, MAX_HEADER_BYTES)
        self._map: mmap.mmap | None = None
        self.tensors: Mapping[str, TensorSpec]
        self.offsets: Mapping[str, int]
        with path.open("rb") as file:  # closed at once, since a round may map hundreds of files
            size = file.seek(0, os.SEEK_END)
            if size:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            if like is not None and self._is_canonical(like, size):
                self.tensors, self.offsets = like.tensors, like.offsets
            else:
                self.tensors, self.offsets = self._parse(size)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the memory map. Arrays that still view it keep the map open until they are freed."""
        if self._map is not None:
            with contextlib.suppress(BufferError):  # a view is alive; the map closes with it
                self._map.close()

    @property
    def contract(self) -> Contract:
        return Contract.of(self.tensors)

    def read(self, name: str) -> Array:
        """Return tensor *name* as float32: a read-only view if the file holds F32, otherwise a converted copy."""
        spec = self.tensors[name]
        raw = self._flat(name, spec)
        return in_float32(raw, spec.dtype).reshape(spec.shape)

    def _flat(self, name: str, spec: TensorSpec) -> Stored:
        """The values of a tensor as they are stored, a read-only view with one dimension."""
        assert self._map is not None or spec.n_bytes == 0
        return np.frombuffer(
            self._map if self._map is not None else b"",
            dtype=_STORED[spec.dtype],
            count=math.prod(spec.shape),
            offset=self.offsets[name],
        )

    def read_at(self, offset: int, n_values: int) -> Array:
        """Return float32 values from a byte of the file on, of one tensor or of several F32 tensors that follow each
        other, as a read-only view with one dimension."""
        assert self._map is not None
        return np.frombuffer(self._map, dtype="<f4", count=n_values, offset=offset)

    def _is_canonical(self, contract: Contract, size: int) -> bool:
        if self._map is None or size != contract.file_bytes:
            return False
        return self._map[: len(contract.header)] == contract.header

    def _parse(self, size: int) -> tuple[dict[str, TensorSpec], dict[str, int]]:
        """The specs and the offsets of the tensors, in the order of the file."""
        tensors: dict[str, TensorSpec] = {}
        offsets: dict[str, int] = {}
        if self._map is None or size < 8:
            raise AdapterError(f"the file has {size} bytes, too few for a safetensors header")
        (header_bytes,) = struct.unpack("<Q", self._map[:8])
        if 8 + header_bytes > size:
            raise AdapterError(f"the header claims {header_bytes} bytes, the file has {size}")
        if header_bytes > self._max_header_bytes:
            raise AdapterError(f"the header has {header_bytes} bytes; at most {self._max_header_bytes} are read here")
        start, position = 8 + header_bytes, 0
        entries = _load_header(self._map[8:start], self.dtypes)
        for name, dtype, shape, begin, end in sorted(entries, key=lambda entry: entry[3:]):
            spec = TensorSpec(dtype, shape)
            if begin != position:
                problem = "overlaps the tensor before it" if begin < position else "leaves a hole before it"
                raise AdapterError(f"data at [{begin}, {end}) {problem}", name)
            if end - begin != spec.n_bytes:
                raise AdapterError(
                    f"{end - begin} bytes of data, shape {list(shape)} {dtype} needs {spec.n_bytes}", name
                )
            if start + end > size:
                raise AdapterError(f"the file ends {start + end - size} bytes before this tensor does", name)
            tensors[name] = spec
            offsets[name] = start + begin
            position = end
        if start + position != size:
            raise AdapterError(f"{size - start - position} bytes follow the last tensor")
        return tensors, offsets


def _load_header(raw: bytes, dtypes: Sequence[str]) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    """Parse a header's JSON into (name, dtype, shape, begin, end). Raises AdapterError if it is malformed, or names
    other dtypes."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            raise AdapterError("the header names a key twice")
        return mapping

    try:
        header = json.loads(raw.decode(), object_pairs_hook=unique)  # loads(bytes) would accept UTF-16 and UTF-32
    except AdapterError:
        raise
    except (ValueError, RecursionError) as error:
        raise AdapterError("the header is not JSON in UTF-8") from error
    if not isinstance(header, dict):
        raise AdapterError("the header is not a JSON object")
    header.pop("__metadata__", None)
    entries = []
    for name, entry in header.items():
        if not name.isprintable() or len(name) > MAX_NAME_CHARACTERS:  # errors repeat names in replies and logs
            raise AdapterError(f"a tensor's name is longer than {MAX_NAME_CHARACTERS} characters or cannot be printed")
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise AdapterError("the header's entry needs dtype, shape and data_offsets, and nothing else", name)
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in dtypes:
            raise AdapterError(f"dtype {str(dtype)[:20]!r}, expected one of {', '.join(dtypes)}", name)
        if not _is_natural_list(shape) or not _is_natural_list(offsets) or len(offsets) != 2:
            raise AdapterError("shape and data_offsets must be lists of whole numbers, none negative", name)
        if len(shape) > MAX_DIMENSIONS or 0 in shape:
            raise AdapterError(f"a shape needs at most {MAX_DIMENSIONS} dimensions, and no zero among them", name)
        entries.append((name, dtype, tuple(shape), offsets[0], offsets[1]))
    return entries


def _is_natural_list(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 48 for item in value)


def _canonical_header(contract: Contract) -> bytes:
    position, entries = 0, {}
    for name, spec in contract.tensors.items():
        entries[name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [position, position + spec.n_bytes],
        }
        position += spec.n_bytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class AdapterWriter:
    """Writes a canonical file, one tensor at a time, in any order: float32, or as ``Stored`` what the contract has as
    BF16 or I8.

    *target* is a path, or an empty file that is open for writing; the end of the block closes it. ``write`` raises
    AdapterError if the contract does not name the tensor, if its shape or kind of number differs, or if it was written
    before. Leaving the block raises AdapterError if tensors are still missing. Several threads may write.
    """

    def __init__(self, target: Path | IO[bytes], contract: Contract) -> None:
        if any(spec.dtype == "F16" for spec in contract.tensors.values()):
            raise AdapterError("canonical files are written in F32, and updates in BF16 and I8 too")
        self._missing = {name: (contract.offsets[name], spec) for name, spec in contract.tensors.items()}
        self._lock = threading.Lock()
        self._file = target.open("wb") if isinstance(target, Path) else target
        self._file.write(contract.header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        if kind is None and self._missing:
            raise AdapterError("was never written", next(iter(self._missing)))

    def write(self, name: str, values: NDArray[Any]) -> None:
        offset, spec = self.reserve(name)
        if values.shape != spec.shape:
            raise AdapterError(f"shape {list(values.shape)}, expected {list(spec.shape)}", name)
        if _dtype_of(values) != spec.dtype:
            raise AdapterError(f"{values.dtype} values, which are not written as {spec.dtype}", name)
        self.write_at(offset, values)

    def reserve(self, name: str) -> tuple[int, TensorSpec]:
        """Take tensor *name* off those that ``write`` writes. Returns its offset and its spec, for ``write_at``."""
        if name not in self._missing:
            raise AdapterError("is not in the contract, or was written before", name)
        return self._missing.pop(name)

    def write_at(self, offset: int, values: NDArray[Any]) -> None:
        """Write values from a byte of the file on, of tensors that were reserved."""
        data = np.ascontiguousarray(values, dtype=_STORED[_dtype_of(values)]).data
        with self._lock:
            self._file.seek(offset)
            self._file.write(data)


def _dtype_of(values: Stored) -> str:
    """The dtype that values are written as."""
    return _WRITTEN.get(values.dtype, "F32")


def write_adapter(target: Path | IO[bytes], tensors: Mapping[str, Stored]) -> Contract:
    """Write *tensors* as a canonical file and return its contract. An open file is closed. Raises OSError."""
    contract = Contract.of({name: TensorSpec(_dtype_of(values), values.shape) for name, values in tensors.items()})
    with AdapterWriter(target, contract) as writer:
        for name in contract.tensors:
            writer.write(name, tensors[name])
    return contract
