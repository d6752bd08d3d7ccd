"""Aggregation: streams a round's updates through the algorithm's server half, tensor by tensor.

Memory is a few tensors, independent of the number of clients: deltas are read through memory maps, in the order of
client numbers, and each result is written at once. The same updates give the same bytes on every machine.
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
from shared.adapters import AdapterFile, AdapterWriter, Array, Contract, check_finite, slot_name
from shared.algorithms import Algorithm, AlgorithmParams, ServerHalf, Updates, UpdateTensor
from shared.campaign import LoraSection
from shared.lora import trained


@dataclass(frozen=True)
class ClientUpdate:
    """One client's files and weights. p: its weight in this round. q: its weight among all clients of the campaign."""

    client_number: int
    p: float
    q: float
    delta: Path
    extras: Path | None


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
    first: bool,
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
        first: whether the state is the initial one.
        lora: the campaign's section.
        membership_scale: factor for the algorithm's sums over all clients, below 1 if clients joined.
        measures_gap: whether to measure the factor gap too.

    Raises OSError, and AdapterError if a file is not what it was checked to be or the result is not finite.
    """
    server = algorithm.server(params)
    squared_norm = 0.0
    with ExitStack() as stack:
        x_file = stack.enter_context(AdapterFile(parent))
        contract = x_file.contract
        changing = trained(contract, lora)
        state_file = stack.enter_context(AdapterFile(state)) if state is not None else None
        clients = _open_clients(stack, updates)
        outputs = _open_outputs(stack, out, server, contract, changing)
        for name, spec in contract.tensors.items():
            if name not in changing.tensors:
                outputs.adapter.write(name, x_file.read(name))
                continue
            slots = _state_of(name, spec.shape, server, state_file)
            for slot in server.client_sums if membership_scale != 1.0 else ():
                slots[slot] = np.multiply(slots[slot], membership_scale, dtype=np.float64).astype(np.float32)
            squared_norm += _aggregate_tensor(server, name, spec.shape, x_file, clients, slots, outputs, first=first)
            crash_points.reach("aggregation: tensor written")
        gap = None
        if measures_gap:
            gap = factor_gap(x_file, [(each.p, each.delta) for each in clients], lora.alpha / lora.rank)
    norm = math.sqrt(squared_norm)
    return Aggregated(outputs.adapter_path, outputs.broadcast_path, outputs.state_path, norm, gap)


@dataclass(frozen=True)
class _Client:
    """One client's weights and open files."""

    p: float
    q: float
    delta: AdapterFile
    extras: AdapterFile | None

    def reader(self, name: str) -> Callable[[str], Array]:
        """A function from a slot to this client's tensor in it."""

        def read(slot: str) -> Array:
            if slot == "delta":
                return self.delta.read(name)
            assert self.extras is not None  # an update without the algorithm's extras is refused on arrival
            return self.extras.read(slot_name(slot, name))

        return read


def _open_clients(stack: ExitStack, updates: Sequence[ClientUpdate]) -> list[_Client]:
    """Open the updates' files, in the order of client numbers."""
    return [
        _Client(
            update.p,
            update.q,
            stack.enter_context(AdapterFile(update.delta)),
            stack.enter_context(AdapterFile(update.extras)) if update.extras is not None else None,
        )
        for update in sorted(updates, key=lambda update: update.client_number)
    ]


@dataclass(frozen=True)
class _Outputs:
    """Open output files. slots: the writers of state and broadcast, each with the slots that it gets."""

    adapter_path: Path
    broadcast_path: Path | None
    state_path: Path | None
    adapter: AdapterWriter
    slots: Sequence[tuple[Sequence[str], AdapterWriter]]


def _open_outputs(
    stack: ExitStack, out: Path, server: ServerHalf[Any], contract: Contract, changing: Contract
) -> _Outputs:
    adapter_path = out / "adapter.safetensors"
    state_path = out / "state.safetensors" if server.state else None
    broadcast_path = out / "broadcast.safetensors" if server.broadcast else None
    adapter = stack.enter_context(AdapterWriter(adapter_path, contract))
    slots = [
        (selected, stack.enter_context(AdapterWriter(path, changing.in_slots(selected))))
        for selected, path in ((server.state, state_path), (server.broadcast, broadcast_path))
        if path is not None
    ]
    return _Outputs(adapter_path, broadcast_path, state_path, adapter, slots)


def _aggregate_tensor(
    server: ServerHalf[Any],
    name: str,
    shape: tuple[int, ...],
    x_file: AdapterFile,
    clients: Sequence[_Client],
    slots: dict[str, Array],
    outputs: _Outputs,
    *,
    first: bool,
) -> float:
    """Aggregate one tensor and write the results. Returns ‖x⁺ − x‖².

    No view over the memory maps outlives the call, so the maps can be closed.
    """
    x = x_file.read(name)
    views = [UpdateTensor(client.p, client.q, client.reader(name)) for client in clients]
    x_next = server.aggregate(x, Updates(views, shape), slots, first=first)
    check_finite(name, x_next)  # finite updates may add up to infinity, which would spoil every later round
    outputs.adapter.write(name, x_next)
    change = np.subtract(x_next, x, dtype=np.float64).reshape(-1)  # float64: squares of large changes overflow float32
    for selected, writer in outputs.slots:
        for slot in selected:
            writer.write(slot_name(slot, name), slots[slot])
    return float(np.dot(change, change))


def _state_of(name: str, shape: tuple[int, ...], server: ServerHalf[Any], file: AdapterFile | None) -> dict[str, Array]:
    """The server's state of one tensor, by slot: from the last round, or the initial one."""
    if file is None:
        return {slot: server.initial_state(slot, shape) for slot in server.state}
    return {slot: file.read(slot_name(slot, name)).copy() for slot in server.state}
