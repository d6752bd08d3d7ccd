"""Updates as they travel: in float32, or rounded as the campaign's ``wire`` says, and read as float32.

A file in bfloat16 has the tensors of the one in float32 with the dtype BF16. One in int8 has each tensor as I8, and
beside it ``scales/NAME``, F32, one for each block (``shared.adapters.rounding``). A canonical file in float32 is an
adapter's file. The digest of an update is that of the file as it travels, and the coordinator stores it so.

    encoded       the contract of a file, by the one of its tensors and the campaign's ``wire``
    encode        a tensor as a file holds it
    UpdateFile    reads any of the three, by the dtypes in the file
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shared.adapters.files import (
    MAX_HEADER_BYTES,
    AdapterError,
    AdapterFile,
    Array,
    Contract,
    Stored,
    TensorSpec,
    check_finite,
    in_float32,
    slot_name,
)
from shared.adapters.rounding import LARGEST, from_bfloat16, from_int8, from_int8_at, n_blocks, to_bfloat16, to_int8
from shared.campaign.spec import Wire

_SCALES = "scales"


def encoded(contract: Contract, wire: Wire) -> Contract:
    """The contract of a file that holds the tensors of *contract*, which are float32, as they travel."""
    if wire == "float32":
        return contract
    if wire == "bfloat16":
        return Contract.of({name: TensorSpec("BF16", spec.shape) for name, spec in contract.tensors.items()})
    whole = {name: TensorSpec("I8", spec.shape) for name, spec in contract.tensors.items()}
    return Contract.of(whole | {_scales_of(name): _spec_of_scales(spec) for name, spec in whole.items()})


def encode(name: str, values: Array, wire: Wire) -> tuple[dict[str, Stored], Array]:
    """A tensor as a file holds it, by names in the file, and the values that a reader of the file gets.

    Raises AdapterError if *values*, or the values that they are rounded to, are not finite.
    """
    check_finite(name, values)
    stored: dict[str, Stored]
    if wire == "float32":
        return {name: values}, values
    if wire == "bfloat16":
        bits = to_bfloat16(values)
        stored, arrived = {name: bits}, from_bfloat16(bits)
    else:
        whole, scales = to_int8(values)
        stored, arrived = {name: whole, _scales_of(name): scales}, from_int8(whole, scales)
    check_finite(name, arrived)
    return stored, arrived


class UpdateFile(AdapterFile):
    """An update's file. ``tensors`` and ``read`` are of the update in float32; ``stored`` has the file's own tensors.

    Raises AdapterError as ``AdapterFile``, and if a tensor in int8 lacks its scales.
    """

    dtypes = (*AdapterFile.dtypes, "I8")

    def __init__(self, path: Path, max_header_bytes: int = MAX_HEADER_BYTES, *, like: Contract | None = None) -> None:
        super().__init__(path, max_header_bytes, like=like)
        self.stored = self.tensors
        self.is_rounded = any(spec.dtype != "F32" for spec in self.stored.values())
        try:
            if self.is_rounded:
                self.tensors = _decoded(self.stored)
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> Array:
        spec = self.stored[name]
        return self.read_block(name, 0, math.prod(spec.shape)).reshape(spec.shape)

    def read_block(self, name: str, begin: int, end: int) -> Array:
        """Return values [begin, end) of the flattened tensor *name* as float32, (end − begin,)."""
        spec = self.stored[name]
        block = self._flat(name, spec)[begin:end]
        if spec.dtype == "I8":
            return from_int8(block, self._scales(name), begin)
        return in_float32(block, spec.dtype)

    def read_part(self, name: str, rows: slice, columns: slice) -> Array:
        """Return some rows and columns of the matrix *name* as float32. The slices have no steps."""
        spec = self.stored[name]
        n_rows, n_columns = spec.shape
        (first, last, _), (left, right, _) = rows.indices(n_rows), columns.indices(n_columns)
        if (left, right) == (0, n_columns):
            return self.read_block(name, first * n_columns, last * n_columns).reshape(-1, n_columns)
        part = self._flat(name, spec).reshape(spec.shape)[first:last, left:right]
        if spec.dtype == "I8":
            positions = np.arange(first, last)[:, np.newaxis] * n_columns + np.arange(left, right)
            return from_int8_at(part, self._scales(name), positions)
        return in_float32(part, spec.dtype)

    def view(self, name: str) -> "Array | TensorView":
        """Tensor *name* as float32, of which memory holds no more than what is indexed."""
        return self.read(name) if self.stored[name].dtype == "F32" else TensorView(self, name)

    def check_values(self) -> None:
        """Raise AdapterError unless all values are finite, and those in int8 as ``encode`` gives them: whole numbers
        from −127 to 127, and no scale below 0."""
        for name in self.tensors:
            if self.stored[name].dtype != "I8":
                check_finite(name, self.read(name))
                continue
            if self._flat(name, self.stored[name]).min() < -LARGEST:
                raise AdapterError(f"holds {-LARGEST - 1}, and int8 values are from {-LARGEST} to {LARGEST}", name)
            scales = self._scales(name)
            check_finite(_scales_of(name), scales)
            if scales.min() < 0:
                raise AdapterError("holds a scale below 0", _scales_of(name))
            with np.errstate(over="ignore"):
                check_finite(name, scales * np.float32(LARGEST))

    def _scales(self, name: str) -> Array:
        scales = _scales_of(name)
        return self._flat(scales, self.stored[scales])


class TensorView:
    """A matrix of a rounded update, decoded where it is indexed by slices: of its rows, or of rows and columns."""

    def __init__(self, file: UpdateFile, name: str) -> None:
        self._file, self._name = file, name
        self.shape = file.tensors[name].shape

    def __getitem__(self, at: slice | tuple[slice, slice]) -> Array:
        return self._file.read_part(self._name, *(at if isinstance(at, tuple) else (at, slice(None))))


def _decoded(stored: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """The tensors of an update in float32, by those of its file. Raises AdapterError if one of int8 lacks its
    scales."""
    of_int8 = {_scales_of(name): name for name, spec in stored.items() if spec.dtype == "I8"}
    for scales, name in of_int8.items():
        if (expected := _spec_of_scales(stored[name])) != stored.get(scales):
            raise AdapterError(f"int8 without its scales: {scales}, F32, shape {list(expected.shape)}", name)
    return {name: TensorSpec("F32", spec.shape) for name, spec in stored.items() if name not in of_int8}


def _scales_of(name: str) -> str:
    """The name of the tensor with the scales of a tensor."""
    return slot_name(_SCALES, name)


def _spec_of_scales(spec: TensorSpec) -> TensorSpec:
    return TensorSpec("F32", (n_blocks(math.prod(spec.shape)),))
