"""Aggregation: streams a round's updates through the algorithm's server half, part by part.

Memory is a few of the largest part, by default a tensor, independent of the number of clients: deltas are read through
memory maps, in the order of client numbers, and each result is written at once. The same updates give the same bytes on
every machine.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.engine.aggregation.factor_gap import FactorGap, factor_gap
from coordinator.engine.aggregation.files import ClientUpdate, InputFiles, OutputFiles, open_clients, open_outputs
from shared import crash_points
from shared.adapters import AdapterError, AdapterFile, check_finite, slot_name
from shared.algorithms import Algorithm, AlgorithmParams, Part, RoundFacts, ServerHalf
from shared.campaign import LoraSection
from shared.lora import trained


@dataclass(frozen=True)
class Aggregated:
    """The result of a round.

    Args:
        adapter: the next global adapter.
        broadcast, state: None if the algorithm has none.
        update_norm: ‖x⁺ − x‖₂ over all tensors.
        factor_gap: the cost of averaging A and B separately; None unless it was measured.
    """

    adapter: Path
    broadcast: Path | None
    state: Path | None
    update_norm: float
    factor_gap: FactorGap | None


def aggregate(
    algorithm: Algorithm,
    params: AlgorithmParams,
    parent: Path,
    state: Path | None,
    updates: Sequence[ClientUpdate],
    out: Path,
    *,
    facts: RoundFacts,
    lora: LoraSection,
    membership_scale: float = 1.0,
    measures_gap: bool = False,
) -> Aggregated:
    """Compute the next global adapter from its parent, the server's state and the updates, as files in *out*.

    Tensors that the clients do not train stay as they are. Runs in a thread.

    Args:
        algorithm, params: the algorithm whose server half aggregates.
        parent: the global adapter that the round started from.
        state: the server's state after the last round; None if there is none yet.
        updates: the round's updates, in any order.
        out: an empty folder.
        facts: passed to the server half.
        lora: the campaign's section.
        membership_scale: factor for the algorithm's sums over all clients, below 1 if clients joined.
        measures_gap: whether to measure the factor gap too.

    Raises OSError, and AdapterError if a file is not what it was checked to be, if the server half does not return each
    tensor, or if the result is not finite.
    """
    server = algorithm.server(params)
    squared_norm = 0.0
    with ExitStack() as stack:
        x_file = stack.enter_context(AdapterFile(parent))
        contract = x_file.contract
        changing = trained(contract, lora)
        state_file = stack.enter_context(AdapterFile(state)) if state is not None else None
        clients = open_clients(stack, updates)
        inputs = InputFiles(server, x_file, state_file, clients, membership_scale)
        outputs = open_outputs(stack, out, server, contract, changing)
        for name in contract.tensors.keys() - changing.tensors.keys():
            outputs.adapter.write(name, x_file.read(name))
        parts = server.divide(list(changing.tensors))
        if algorithm.measures:
            for names in parts:
                server.measure(inputs.part(names), facts)
        for names in parts:
            squared_norm += _combine(server, inputs.part(names), facts, outputs)
            crash_points.reach("aggregation: part written")
        gap = None
        if measures_gap:
            gap = factor_gap(x_file, [(each.p, each.delta) for each in clients], facts.scale)
    return Aggregated(outputs.adapter_path, outputs.broadcast_path, outputs.state_path, math.sqrt(squared_norm), gap)


def _combine(server: ServerHalf[Any], part: Part, facts: RoundFacts, outputs: OutputFiles) -> float:
    """Combine one part and write the results. Returns ‖x⁺ − x‖² over its tensors."""
    combined = server.combine(part, facts)
    squared_norm = 0.0
    for name, x in part.x.items():
        if name not in combined:
            raise AdapterError("the algorithm returned no tensor", name)
        with np.errstate(over="ignore"):
            x_next = np.asarray(combined[name], dtype=np.float32)
        check_finite(name, x_next)  # finite updates may add up to infinity, which would spoil every later round
        outputs.adapter.write(name, x_next)
        change = np.subtract(x_next, x, dtype=np.float64).reshape(-1)  # float64: squares may overflow float32
        squared_norm += float(np.dot(change, change))
        for selected, writer in outputs.slots:
            for slot in selected:
                writer.write(slot_name(slot, name), part.state[name][slot])
    return squared_norm
