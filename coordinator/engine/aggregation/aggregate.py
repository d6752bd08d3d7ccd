"""Aggregation: streams a round's updates through the algorithm's server half, tensor by tensor.

Its memory is a few tensors, whatever the number of clients: deltas are viewed over memory maps, in the order of client
numbers, and each result is written as soon as it is there. The same updates give the same bytes on every machine.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.engine.aggregation.factor_gap import FactorGap, factor_gap
from shared import crash_points
from shared.adapters import AdapterFile, AdapterWriter, Array, check_finite, slot_name
from shared.algorithms import Algorithm, AlgorithmParams, ServerHalf, Updates, UpdateTensor
from shared.campaign import LoraSection
from shared.lora import trained


@dataclass(frozen=True)
class ClientUpdate:
    """One client's files and weights. p: its share of this round. q: its share of the campaign."""

    client_number: int
    p: float
    q: float
    delta: Path
    extras: Path | None


@dataclass(frozen=True)
class Aggregated:
    """What a round gives. update_norm: ‖x⁺ − x‖₂ over all tensors. factor_gap: what averaging A and B apart cost,
    where it was asked for."""

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
    first: bool,
    lora: LoraSection,
    membership_scale: float = 1.0,
    measures_gap: bool = False,
) -> Aggregated:
    """Make the next global adapter from its parent, the server's state and the updates, as files in the folder *out*.

    Tensors that the clients do not train stay as they are. Runs in a thread.

    Args:
        algorithm, params: whose server half computes it.
        parent: the global adapter that the round started from.
        state: what the last round left; None where the algorithm keeps none yet.
        updates: the round's updates, in any order.
        out: an empty folder.
        first: whether the state is the initial one.
        lora: the campaign's section.
        growth: what the algorithm's sums over all clients are multiplied by first, because clients joined.
        measures_gap: whether to measure what averaging A and B apart costs, too.

    Raises OSError, and AdapterError where a file is not what it was checked to be or the result is not finite.
    """
    server = algorithm.server(params)
    slots, broadcast = server.state, server.broadcast
    ordered = sorted(updates, key=lambda update: update.client_number)
    squared_norm = 0.0
    with ExitStack() as stack:
        x_file = stack.enter_context(AdapterFile(parent))
        contract = x_file.contract
        changing = trained(contract, lora)
        state_file = stack.enter_context(AdapterFile(state)) if state is not None else None
        files = [
            (
                update,
                stack.enter_context(AdapterFile(update.delta)),
                stack.enter_context(AdapterFile(update.extras)) if update.extras is not None else None,
            )
            for update in ordered
        ]
        adapter_path = out / "adapter.safetensors"
        state_path = out / "state.safetensors" if slots else None
        broadcast_path = out / "broadcast.safetensors" if broadcast else None
        writer = stack.enter_context(AdapterWriter(adapter_path, contract))
        beside = [
            (selected, stack.enter_context(AdapterWriter(path, changing.in_slots(selected))))
            for selected, path in ((slots, state_path), (broadcast, broadcast_path))
            if path is not None
        ]
        for name, spec in contract.tensors.items():
            x = x_file.read(name)
            if name not in changing.tensors:
                writer.write(name, x)
                continue
            kept = _state_of(name, spec.shape, server, state_file)
            for slot in server.client_sums if membership_scale != 1.0 else ():
                kept[slot] = np.multiply(kept[slot], membership_scale, dtype=np.float64).astype(np.float32)
            views = [UpdateTensor(update.p, update.q, _reader(name, delta, extras)) for update, delta, extras in files]
            x_next = server.aggregate(x, Updates(views, spec.shape), kept, first=first)
            check_finite(name, x_next)  # finite updates may add up to infinity, and would spoil every later round
            writer.write(name, x_next)
            change = np.subtract(x_next, x, dtype=np.float64).reshape(-1)  # fp64: large changes overflow squared
            squared_norm += float(np.dot(change, change))
            for selected, slot_writer in beside:
                for slot in selected:
                    slot_writer.write(slot_name(slot, name), kept[slot])
            del views  # let the maps be closed
            crash_points.reach("aggregation: tensor written")
        del x
        gap = None
        if measures_gap:
            gap = factor_gap(x_file, [(update.p, delta) for update, delta, _ in files], lora.alpha / lora.rank)
    return Aggregated(adapter_path, broadcast_path, state_path, math.sqrt(squared_norm), gap)


def _state_of(name: str, shape: tuple[int, ...], server: ServerHalf[Any], file: AdapterFile | None) -> dict[str, Array]:
    """The server's state of one tensor, by slot: what the last round left, or the initial one."""
    if file is None:
        return {slot: server.initial_state(slot, shape) for slot in server.state}
    return {slot: file.read(slot_name(slot, name)).copy() for slot in server.state}


def _reader(name: str, delta: AdapterFile, extras: AdapterFile | None) -> Callable[[str], Array]:
    def read(slot: str) -> Array:
        if slot == "delta":
            return delta.read(name)
        assert extras is not None  # an update without the algorithm's extras is refused when it comes in
        return extras.read(slot_name(slot, name))

    return read
