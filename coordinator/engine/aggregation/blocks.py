"""Aggregation by blocks: for server halves that treat each element by itself.

The trained tensors are one vector, in the inputs and in the outputs, and a block is a range of it, small enough that
what is computed on it stays in the cache. Several threads take one block after the other; numpy computes, and files are
written, without the interpreter's lock. Elements do not depend on each other, so neither the number of threads nor the
size of a block changes a byte.
"""

import math
from bisect import bisect_right
from contextlib import ExitStack
from itertools import accumulate

import numpy as np

from coordinator.engine.aggregation.calling import calling
from coordinator.engine.aggregation.files import InputFiles, OutputFiles
from coordinator.engine.aggregation.finite import as_float32
from coordinator.engine.aggregation.threads import in_threads
from coordinator.engine.aggregation.vectors import InputVectors, OutputVectors
from shared import crash_points
from shared.adapters.files import AdapterError, Array, check_finite, slot_name
from shared.adapters.scratch import BLOCK_VALUES, scratch
from shared.algorithms import Algorithm, RoundFacts

_KEPT_BYTES = 8 << 20


def combine_blocks(
    algorithm: Algorithm,
    inputs: InputFiles,
    outputs: OutputFiles,
    facts: RoundFacts,
    n_threads: int,
) -> float:
    """Combine and write all blocks. Returns ‖x⁺ − x‖².

    Raises the error of the first block that has one: NotFinite if a result is not finite, AlgorithmFailed if the server
    half fails or returns another shape.
    """
    _keep_freed_memory()
    with ExitStack() as stack:
        blocks = _Blocks(
            algorithm,
            inputs,
            InputVectors(algorithm, inputs),
            OutputVectors(stack, outputs, list(inputs.trained.tensors)),
            facts,
        )
        squared_norms = in_threads(n_threads, blocks.combine, range(0, blocks.n_values, BLOCK_VALUES))
    return math.fsum(squared_norms)


def _keep_freed_memory() -> None:
    """Have glibc keep what a block frees for the next one.

    At first it returns arrays of this size to the system, and a new one costs page faults: several times the arithmetic
    on it. It keeps as much as twice the largest array that was freed so far.
    """
    np.empty(_KEPT_BYTES // 2, dtype=np.uint8)


class _Blocks:
    """Computes and writes blocks, from any thread."""

    def __init__(
        self,
        algorithm: Algorithm,
        inputs: InputFiles,
        vectors: InputVectors,
        outputs: OutputVectors,
        facts: RoundFacts,
    ) -> None:
        self._algorithm = algorithm
        self._inputs = inputs
        self._vectors = vectors
        self._outputs = outputs
        self._facts = facts
        self._names = list(inputs.trained.tensors)
        self._ends = list(accumulate(math.prod(spec.shape) for spec in inputs.trained.tensors.values()))
        self.n_values = vectors.x.size

    def combine(self, begin: int) -> float:
        """Compute and write the block that begins at an element. Returns its ‖x⁺ − x‖²."""
        with np.errstate(over="ignore", invalid="ignore"):  # results are checked
            return self._combine(begin, min(begin + BLOCK_VALUES, self.n_values))

    def _combine(self, begin: int, end: int) -> float:
        x = self._vectors.x.read(begin, end)
        with calling(self._algorithm):
            state = self._inputs.rescaled(self._vectors.state_of(begin, end))
            updates = self._vectors.updates_of(begin, end)
            x_next = self._inputs.server.aggregate(x, updates, state, first=self._facts.first)
            for values in (x_next, *(state[slot] for slot in self._outputs.slots)):
                if values.shape != x.shape:
                    raise AdapterError(f"it returned the shape {list(values.shape)} for a block of {list(x.shape)}")
        x_next = as_float32(x_next)
        change, before = scratch(x.size)  # float64: squares may overflow float32
        np.copyto(change, x_next)
        np.copyto(before, x)
        change -= before
        squared_norm = float(np.dot(change, change))
        if not math.isfinite(squared_norm):  # as it is if a value of x⁺ is not
            self._check(begin, x_next)
        self._outputs.x.write(begin, x_next)
        for slot, writers in self._outputs.slots.items():
            values = as_float32(state[slot])
            if not math.isfinite(np.dot(values, values)):
                self._check(begin, values, slot)
            for writer in writers:
                writer.write(begin, values)
        crash_points.reach("aggregation: part written")
        return squared_norm

    def _check(self, begin: int, values: Array, slot: str | None = None) -> None:
        """Raise NotFinite, with the tensor's name, if a value of a block is not finite."""
        finite = np.isfinite(values)
        if not finite.all():
            first = int(np.argmin(finite))
            tensor = bisect_right(self._ends, begin + first)
            name = self._names[tensor]
            check_finite(slot_name(slot, name) if slot else name, values[first : self._ends[tensor] - begin])
