"""Aggregation by parts: for server halves that see whole tensors. Memory is a few of the largest part."""

from collections.abc import Mapping, Sequence

import numpy as np

from coordinator.engine.aggregation.calling import calling
from coordinator.engine.aggregation.files import InputFiles, OutputFiles
from coordinator.engine.aggregation.finite import finite
from shared import crash_points
from shared.adapters.files import AdapterError, Array, slot_name
from shared.algorithms import Algorithm, Part, RoundFacts


def measure_parts(algorithm: Algorithm, inputs: InputFiles, facts: RoundFacts) -> None:
    """The first pass over the updates, for server halves that need one. Raises AlgorithmFailed."""
    if algorithm.measures:
        for names in _divide(algorithm, inputs):
            with calling(algorithm):
                inputs.server.measure(inputs.part(names), facts)


def combine_parts(
    algorithm: Algorithm,
    inputs: InputFiles,
    outputs: OutputFiles,
    facts: RoundFacts,
) -> float:
    """Combine and write all parts, one after the other. Returns ‖x⁺ − x‖².

    Raises NotFinite if a result is not finite, AdapterError if it has another shape, and AlgorithmFailed.
    """
    squared_norm = 0.0
    for names in _divide(algorithm, inputs):
        with calling(algorithm):
            part = inputs.part(names)
            combined = inputs.server.combine(part, facts)
            if combined.keys() != part.x.keys():
                raise AdapterError(f"it returned {sorted(combined)} for the part {list(names)}")
        squared_norm += _write(part, combined, outputs)
        crash_points.reach("aggregation: part written")
    return squared_norm


def _divide(algorithm: Algorithm, inputs: InputFiles) -> Sequence[Sequence[str]]:
    with calling(algorithm):
        return inputs.server.divide(list(inputs.trained.tensors))


def _write(part: Part, combined: Mapping[str, Array], outputs: OutputFiles) -> float:
    """Write a part's results. Returns ‖x⁺ − x‖² over its tensors."""
    squared_norm = 0.0
    for name, x in part.x.items():
        x_next = finite(name, combined[name])
        outputs.adapter.write(name, x_next)
        change = np.subtract(x_next, x, dtype=np.float64).reshape(-1)  # float64: squares may overflow float32
        squared_norm += float(np.dot(change, change))
        for selected, writer in outputs.slots:
            for slot in selected:
                slot_tensor = slot_name(slot, name)
                writer.write(slot_tensor, finite(slot_tensor, part.state[name][slot]))
    return squared_norm
