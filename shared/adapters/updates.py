"""Updates as they travel: in float32, or rounded as the campaign's ``wire`` says, and read as float32.

A file in bfloat16 has the tensors of the one in float32 with the dtype BF16. One in int8 has two tensors: ``values``,
I8, all numbers of the update, tensor after tensor in the order of their names, and ``scales``, F32, one for each block
of them (``shared.adapters.rounding``). It names no tensor of the update: both ends know them, and the names of a small
update would be a tenth of it. A canonical file in float32 is an adapter's file. The digest of an update is that of the
file as it travels, and the coordinator stores it so.

    encoded       the contract of a file, by the one of its tensors and the campaign's ``wire``
    encode        an update's tensors as a file holds them
    UpdateFile    reads any of the three, by the dtypes in the file
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
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
)
from shared.adapters.lora import at_rank_of
from shared.adapters.rounding import (
    BLOCK,
    LARGEST,
    from_bfloat16,
    from_int8,
    from_int8_at,
    n_blocks,
    to_bfloat16,
    to_int8,
)
from shared.campaign.spec import Wire

_VALUES, _SCALES = "values", "scales"


def encoded(contract: Contract, wire: Wire) -> Contract:
    """The contract of a file that holds the tensors of *contract*, which are float32, as they travel."""
    if wire == "float32":
        return contract
    if wire == "bfloat16":
        return Contract.of({name: TensorSpec("BF16", spec.shape) for name, spec in contract.tensors.items()})
    n = contract.n_values
    return Contract.of({_VALUES: TensorSpec("I8", (n,)), _SCALES: _spec_of_scales(n)})


def encode(tensors: Mapping[str, Array], wire: Wire) -> tuple[dict[str, Stored], Mapping[str, Array]]:
    """An update's tensors as a file holds them, by names in the file, and the values that a reader of the file gets, by
    names in the update, each computed when it is asked for.

    One tensor at a time is asked of *tensors*. Raises AdapterError if a value, or what it is rounded to, is not finite.
    """
    finite = Computed(tensors, lambda name: _finite(name, tensors[name]))
    if wire == "float32":
        return dict(finite), dict(tensors)
    stored: dict[str, Stored]
    if wire == "bfloat16":
        stored = {name: to_bfloat16(values) for name, values in finite.items()}
        arrived = Computed(tensors, lambda name: from_bfloat16(stored[name]))
    else:
        stored, arrived = _in_int8(finite)
    for name, values in arrived.items():
        check_finite(name, values)
    return stored, arrived


class Computed(Mapping[str, Array]):
    """Tensors of which memory holds those that are in use.

    names: of all. compute: gives one, each time it is asked for.
    """

    def __init__(self, names: Iterable[str], compute: Callable[[str], Array]) -> None:
        self._names = list(names)
        self._compute = compute

    def __getitem__(self, name: str) -> Array:
        return self._compute(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _finite(name: str, values: Array) -> Array:
    check_finite(name, values)
    return values


def _in_int8(tensors: Mapping[str, Array]) -> tuple[dict[str, Stored], Computed]:
    """The two tensors of a file in int8, and what its reader gets."""
    shapes: dict[str, tuple[int, ...]] = {}
    begins: dict[str, int] = {}
    rounded: list[tuple[Stored, Array]] = []
    n_values, left = 0, np.empty(0, np.float32)
    for name in sorted(tensors):
        values = tensors[name]
        shapes[name], begins[name] = values.shape, n_values
        n_values += values.size
        vector = np.concatenate([left, values.reshape(-1)])
        n_whole = vector.size - vector.size % BLOCK
        rounded.append(to_int8(vector[:n_whole]))
        left = vector[n_whole:].copy()  # the block goes on with the next tensor
    rounded.append(to_int8(left))
    whole, scales = (np.concatenate(pieces) for pieces in zip(*rounded, strict=True))

    def arrived(name: str) -> Array:
        begin, shape = begins[name], shapes[name]
        return from_int8(whole[begin : begin + math.prod(shape)], scales, begin).reshape(shape)

    return {_VALUES: whole, _SCALES: scales}, Computed(shapes, arrived)


class UpdateFile(AdapterFile):
    """An update's file. ``tensors`` and ``read`` are of the update in float32; ``stored`` has the file's own tensors.

    like: the update's tensors in float32, at any rank. They name the tensors of a file in int8, which without them is
    one tensor, ``values``; a canonical file in float32 is compared with them as a whole.

    Raises AdapterError as ``AdapterFile``, and if a file in int8 lacks its scales or has another number of values than
    *like* has at any rank.
    """

    dtypes = (*AdapterFile.dtypes, "I8")

    def __init__(self, path: Path, max_header_bytes: int = MAX_HEADER_BYTES, *, like: Contract | None = None) -> None:
        super().__init__(path, max_header_bytes, like=like)
        self.stored = self.tensors
        self.is_rounded = any(spec.dtype != "F32" for spec in self.stored.values())
        self._begins: dict[str, int] | None = None
        """Of a file in int8: where the first value of each tensor is in ``values``."""
        try:
            if any(spec.dtype == "I8" for spec in self.stored.values()):
                self.tensors = _named(self.stored, like)
                sizes = (math.prod(spec.shape) for spec in self.tensors.values())
                self._begins = dict(zip(self.tensors, accumulate(sizes, initial=0), strict=False))
            elif self.is_rounded:
                self.tensors = {name: TensorSpec("F32", spec.shape) for name, spec in self.stored.items()}
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> Array:
        shape = self.tensors[name].shape
        return self.read_block(name, 0, math.prod(shape)).reshape(shape)

    def read_block(self, name: str, begin: int, end: int) -> Array:
        """Return values [begin, end) of the flattened tensor *name* as float32, (end − begin,)."""
        if self._begins is not None:
            first = self._begins[name]
            return from_int8(self._own(_VALUES)[first + begin : first + end], self._own(_SCALES), first + begin)
        return in_float32(self._own(name)[begin:end], self.stored[name].dtype)

    def read_part(self, name: str, rows: slice, columns: slice) -> Array:
        """Return some rows and columns of the matrix *name* as float32. The slices have no steps."""
        n_rows, n_columns = self.tensors[name].shape
        (first, last, _), (left, right, _) = rows.indices(n_rows), columns.indices(n_columns)
        if (left, right) == (0, n_columns):
            return self.read_block(name, first * n_columns, last * n_columns).reshape(-1, n_columns)
        if self._begins is not None:
            positions = self._begins[name] + np.arange(first, last)[:, np.newaxis] * n_columns + np.arange(left, right)
            return from_int8_at(self._own(_VALUES)[positions], self._own(_SCALES), positions)
        part = self._own(name).reshape(n_rows, n_columns)[first:last, left:right]
        return in_float32(part, self.stored[name].dtype)

    def view(self, name: str) -> "Array | TensorView":
        """Tensor *name* as float32, of which memory holds no more than what is indexed."""
        return TensorView(self, name) if self.is_rounded else self.read(name)

    def check_values(self) -> None:
        """Raise AdapterError unless all values are finite, and those in int8 as ``encode`` gives them: whole numbers
        from −127 to 127, and no scale below 0."""
        if self._begins is None:
            for name in self.tensors:
                check_finite(name, self.read(name))
            return
        if self._own(_VALUES).min() < -LARGEST:
            raise AdapterError(f"holds {-LARGEST - 1}, and int8 values are from {-LARGEST} to {LARGEST}", _VALUES)
        scales = self._own(_SCALES)
        check_finite(_SCALES, scales)
        if scales.min() < 0:
            raise AdapterError("holds a scale below 0", _SCALES)
        with np.errstate(over="ignore"):
            check_finite(_VALUES, scales * np.float32(LARGEST))

    def _own(self, name: str) -> Stored:
        """The values of one of the file's own tensors, with one dimension."""
        return self._flat(name, self.stored[name])


class TensorView:
    """A matrix of a rounded update, decoded where it is indexed by slices: of its rows, or of rows and columns."""

    def __init__(self, file: UpdateFile, name: str) -> None:
        self._file, self._name = file, name
        self.shape = file.tensors[name].shape

    def __getitem__(self, at: slice | tuple[slice, slice]) -> Array:
        return self._file.read_part(self._name, *(at if isinstance(at, tuple) else (at, slice(None))))


def _named(stored: Mapping[str, TensorSpec], like: Contract | None) -> Mapping[str, TensorSpec]:
    """The tensors of an update whose file is in int8. Raises AdapterError if the file is not as ``encoded`` says."""
    values = stored.get(_VALUES)
    if values is None or values.dtype != "I8":
        raise AdapterError(f"no tensor {_VALUES} of int8, which an update in int8 has")
    scales = _spec_of_scales(n := math.prod(values.shape))
    if values.shape != (n,) or dict(stored) != {_VALUES: values, _SCALES: scales}:
        shapes = f"{_VALUES}, I8, [{n}], and {_SCALES}, F32, {list(scales.shape)}"
        raise AdapterError(f"an update of {n} numbers in int8 has two tensors: {shapes}")
    if like is None:
        return {_VALUES: TensorSpec("F32", values.shape)}
    return like.tensors if like.n_values == n else at_rank_of(like, n).tensors


def _spec_of_scales(n_values: int) -> TensorSpec:
    return TensorSpec("F32", (n_blocks(n_values),))
