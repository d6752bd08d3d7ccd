"""The files of a round's aggregation: the inputs, from which parts are read, and the outputs."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.adapters.files import AdapterFile, AdapterWriter, Array, Contract, slot_name
from shared.adapters.updates import UpdateFile
from shared.algorithms import Part, ServerHalf, Updates, UpdateTensor


@dataclass(frozen=True)
class ClientUpdate:
    """One client's files and weights. p: its weight in this round. q: its weight among all clients of the campaign."""

    client_number: int
    p: float
    q: float
    delta: Path
    extras: Path | None


@dataclass(frozen=True)
class ClientFiles:
    """One client's weights and open files."""

    p: float
    q: float
    delta: UpdateFile
    extras: UpdateFile | None

    def update(self, name: str) -> UpdateTensor:
        """This client's update of one tensor, with the client's own shape."""

        def read(slot: str) -> Array:
            if slot == "delta":
                return self.delta.read(name)
            assert self.extras is not None  # an update without the algorithm's extras is refused on arrival
            return self.extras.read(slot_name(slot, name))

        return UpdateTensor(self.p, self.q, self.delta.tensors[name].shape, read)

    def has_shapes_of(self, trained: Contract) -> bool:
        """Whether the update has the global tensors' shapes; False if the client trains a smaller rank."""
        return all(self.delta.tensors[name].shape == spec.shape for name, spec in trained.tensors.items())


def open_clients(stack: ExitStack, updates: Sequence[ClientUpdate]) -> list[ClientFiles]:
    """Open the updates' files, in the order of client numbers."""
    return [
        ClientFiles(
            update.p,
            update.q,
            stack.enter_context(UpdateFile(update.delta)),
            stack.enter_context(UpdateFile(update.extras)) if update.extras is not None else None,
        )
        for update in sorted(updates, key=lambda update: update.client_number)
    ]


@dataclass(frozen=True)
class InputFiles:
    """A round's open files, from which parts are read."""

    server: ServerHalf[Any]
    x: AdapterFile
    state: AdapterFile | None
    clients: Sequence[ClientFiles]
    membership_scale: float

    def part(self, names: Sequence[str]) -> Part:
        """Read a part. Its tensors are views over the memory maps, which can be closed only when no view is left."""
        shapes = {name: self.x.tensors[name].shape for name in names}
        return Part(
            x={name: self.x.read(name) for name in names},
            updates={name: self._updates(name, shape) for name, shape in shapes.items()},
            state={name: self._state(name, shape) for name, shape in shapes.items()},
        )

    def _updates(self, name: str, shape: tuple[int, ...]) -> Updates:
        return Updates([client.update(name) for client in self.clients], name, shape)

    def _state(self, name: str, shape: tuple[int, ...]) -> dict[str, Array]:
        """The server's state of one tensor, by slot: from the last round, or the initial one."""
        if self.state is None:
            shapes = {slot: self.server.slot_shape(slot, name, shape) for slot in self.server.state}
            slots = {slot: self.server.initial_state(slot, shapes[slot]) for slot in self.server.state}
        else:
            slots = {slot: self.state.read(slot_name(slot, name)).copy() for slot in self.server.state}
        for slot in self.server.client_sums if self.membership_scale != 1.0 else ():
            slots[slot] = np.multiply(slots[slot], self.membership_scale, dtype=np.float64).astype(np.float32)
        return slots


@dataclass(frozen=True)
class OutputFiles:
    """Open output files. slots: the writers of state and broadcast, each with the slots that it gets."""

    adapter_path: Path
    broadcast_path: Path | None
    state_path: Path | None
    adapter: AdapterWriter
    slots: Sequence[tuple[Sequence[str], AdapterWriter]]


def open_outputs(
    stack: ExitStack, out: Path, server: ServerHalf[Any], contract: Contract, changing: Contract
) -> OutputFiles:
    """Open a round's outputs. contract: all tensors. changing: those that clients train. Raises AdapterError if a slot
    has a shape that a file cannot hold."""
    adapter_path = out / "adapter.safetensors"
    state_path = out / "state.safetensors" if server.state else None
    broadcast_path = out / "broadcast.safetensors" if server.broadcast else None
    adapter = stack.enter_context(AdapterWriter(adapter_path, contract))
    slots = [
        (selected, stack.enter_context(AdapterWriter(path, server.slot_contract(selected, changing))))
        for selected, path in ((server.state, state_path), (server.broadcast, broadcast_path))
        if path is not None
    ]
    return OutputFiles(adapter_path, broadcast_path, state_path, adapter, slots)
