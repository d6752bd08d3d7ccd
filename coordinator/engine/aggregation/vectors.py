"""The trained tensors of a round's files, each file's or slot's as one vector, in the same order."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import accumulate

import numpy as np

from coordinator.engine.aggregation.files import InputFiles, OutputFiles
from shared.adapters.files import AdapterError, AdapterFile, Array, slot_name
from shared.adapters.updates import UpdateFile
from shared.adapters.vectors import Layout, VectorReader, VectorWriter
from shared.algorithms import Algorithm, Updates, UpdateTensor


class InputVectors:
    """x, the updates and the state. Raises AdapterError if one has another number of values than x."""

    def __init__(self, algorithm: Algorithm, inputs: InputFiles) -> None:
        self._server = inputs.server
        names = list(inputs.trained.tensors)
        layouts: dict[tuple[int, str | None], Layout] = {}

        def vector(file: AdapterFile | None, slot: str | None = None) -> VectorReader | RoundedVector:
            assert file is not None  # an update without the algorithm's extras is refused on arrival
            of_slot = _in_slot(slot, names) if slot else names
            found: VectorReader | RoundedVector
            if isinstance(file, UpdateFile) and file.is_rounded:
                found = RoundedVector(file, of_slot)
            else:
                key = (id(file.offsets), slot)  # canonical files of one contract share them
                if key not in layouts:
                    layouts[key] = Layout.of(file, of_slot)
                found = VectorReader(file, layouts[key])
            if found.size != sum_of_sizes:
                raise AdapterError(f"{found.size} values in {slot or 'the delta'}, expected {sum_of_sizes}")
            return found

        sum_of_sizes = sum(math.prod(spec.shape) for spec in inputs.trained.tensors.values())
        self.x = vector(inputs.x)
        self._updates = [
            (
                client.p,
                client.q,
                {"delta": vector(client.delta)}
                | {slot: vector(client.extras, slot) for slot in algorithm.client.extras},
            )
            for client in inputs.clients
        ]
        self._state = {slot: vector(inputs.state, slot) for slot in self._server.state} if inputs.state else {}

    def updates_of(self, begin: int, end: int) -> Updates:
        """The updates of a block: tensors of one dimension."""
        shape = (end - begin,)

        def reads(vectors: dict[str, VectorReader | RoundedVector]) -> Callable[[str], Array]:
            return lambda slot: vectors[slot].read(begin, end)

        return Updates([UpdateTensor(p, q, shape, reads(vectors)) for p, q, vectors in self._updates], "block", shape)

    def state_of(self, begin: int, end: int) -> dict[str, Array]:
        """The server's state of a block, by slot: from the last round, then read-only, or the initial one."""
        if self._state:
            return {slot: vector.read(begin, end) for slot, vector in self._state.items()}
        return {slot: self._server.initial_state(slot, (end - begin,)) for slot in self._server.state}


class RoundedVector:
    """Tensors of a rounded update as one vector, decoded where it is read.

    names: the tensors, in their order. Raises AdapterError if one is missing.
    """

    def __init__(self, file: UpdateFile, names: Sequence[str]) -> None:
        for name in names:
            if name not in file.tensors:
                raise AdapterError("missing", name)
        self._file = file
        self._names = names
        self._ends = list(accumulate(math.prod(file.tensors[name].shape) for name in names))
        self.size = self._ends[-1] if self._ends else 0

    def read(self, begin: int, end: int) -> Array:
        """Return the values [begin, end)."""
        pieces = []
        at = bisect_right(self._ends, begin)
        while begin < end:
            first = self._ends[at - 1] if at else 0
            piece_end = min(end, self._ends[at])
            pieces.append(self._file.read_block(self._names[at], begin - first, piece_end - first))
            begin, at = piece_end, at + 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class OutputVectors:
    """x⁺, and by slot the vectors of the files that get it: the state's, and the broadcast's."""

    def __init__(self, stack: ExitStack, outputs: OutputFiles, names: Sequence[str]) -> None:
        self.x = stack.enter_context(VectorWriter(outputs.adapter, names))
        self.slots: dict[str, list[VectorWriter]] = {}
        for selected, writer in outputs.slots:
            for slot in selected:
                vector = stack.enter_context(VectorWriter(writer, _in_slot(slot, names)))
                self.slots.setdefault(slot, []).append(vector)


def _in_slot(slot: str, names: Sequence[str]) -> list[str]:
    return [slot_name(slot, name) for name in names]
