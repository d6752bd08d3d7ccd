"""Several tensors of an adapter file as one vector, read and written in ranges that need not end where a tensor does.

In a canonical file all tensors follow each other, so a range is one piece of the file. If others lie between them, or
another writer stored them in another order, a range has several pieces.

    Layout          where the values of a vector are in a file
    VectorReader    the vector in an ``AdapterFile``
    VectorWriter    the vector in an ``AdapterWriter``
"""

import math
import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.adapters.files import AdapterError, AdapterFile, AdapterWriter, Array

_VALUE_BYTES = 4


class Layout:
    """Where the values of a vector are in a file.

    places: offset in bytes and number of values of each tensor, in the order of the vector.
    """

    def __init__(self, places: Iterable[tuple[int, int]]) -> None:
        self.size = 0
        self._begins: list[int] = []
        self._offsets: list[int] = []
        after = -1
        for offset, n_values in places:
            if offset != after:
                self._begins.append(self.size)
                self._offsets.append(offset)
            self.size += n_values
            after = offset + _VALUE_BYTES * n_values

    @classmethod
    def of(cls, file: AdapterFile, names: Sequence[str]) -> Self:
        """The layout of the tensors *names* of a file. Raises AdapterError if one is missing or not F32."""
        for name in names:
            if name not in file.tensors:
                raise AdapterError("missing", name)
            if file.tensors[name].dtype != "F32":
                raise AdapterError(f"dtype {file.tensors[name].dtype}, expected F32", name)
        return cls((file.offsets[name], math.prod(file.tensors[name].shape)) for name in names)

    def pieces(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Offset in bytes and number of values of each piece of the range [begin, end)."""
        at = bisect_right(self._begins, begin) - 1
        found = []
        while begin < end:
            piece_end = min(end, self._begins[at + 1]) if at + 1 < len(self._begins) else end
            found.append((self._offsets[at] + _VALUE_BYTES * (begin - self._begins[at]), piece_end - begin))
            begin, at = piece_end, at + 1
        return found


class VectorReader:
    """A vector in a file. layout: of this file."""

    def __init__(self, file: AdapterFile, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        self.size = layout.size

    def read(self, begin: int, end: int) -> Array:
        """Return the values [begin, end), read-only: a view if they are one piece of the file, otherwise a copy."""
        pieces = [self._file.read_at(offset, n_values) for offset, n_values in self._layout.pieces(begin, end)]
        if len(pieces) == 1:
            return pieces[0]
        joined = np.concatenate(pieces)
        joined.flags.writeable = False
        return joined


class VectorWriter:
    """Writes the tensors *names* of a file as one vector, range by range, in any order and from several threads.

    Use it as a context manager: leaving the block raises AdapterError unless as many values were written as there are.
    Raises AdapterError if a tensor is not in the contract, or was written before.
    """

    def __init__(self, writer: AdapterWriter, names: Sequence[str]) -> None:
        self._layout = Layout((offset, math.prod(spec.shape)) for offset, spec in map(writer.reserve, names))
        self._writer = writer
        self._lock = threading.Lock()
        self._n_missing = self._layout.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None and self._n_missing:
            raise AdapterError(f"{self._n_missing} of {self._layout.size} values were never written")

    def write(self, begin: int, values: NDArray[Any]) -> None:
        """Write values (n,) from the vector's element *begin* on."""
        done = 0
        for offset, n_values in self._layout.pieces(begin, begin + values.size):
            self._writer.write_at(offset, values[done : done + n_values])
            done += n_values
        with self._lock:
            self._n_missing -= done
