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

    client_number: int
    p: float
    q: float
    delta: UpdateFile
    extras: UpdateFile | None

    @property
    def files(self) -> list[AdapterFile]:
        return [file for file in (self.delta, self.extras) if file is not None]

    def update(self, name: str) -> UpdateTensor:
        """This client's update of one tensor, with the client's own shape."""

        def read(slot: str) -> Array:
            if slot == "delta":
                return self.delta.read(name)
            assert self.extras is not None  # an update without the algorithm's extras is refused on arrival
            return self.extras.read(slot_name(slot, name))

        return UpdateTensor(self.p, self.q, self.delta.tensors[name].shape, read)


def open_clients(
    stack: ExitStack,
    updates: Sequence[ClientUpdate],
    delta: Contract,
    extras: Contract,
) -> list[ClientFiles]:
    """Open the updates' files, in the order of client numbers. delta, extras: the contracts of the campaign's rank."""
    return [
        ClientFiles(
            update.client_number,
            update.p,
            update.q,
            stack.enter_context(UpdateFile(update.delta, like=delta)),
            stack.enter_context(UpdateFile(update.extras, like=extras)) if update.extras is not None else None,
        )
        for update in sorted(updates, key=lambda update: update.client_number)
    ]


@dataclass(frozen=True)
class InputFiles:
    """A round's open files, from which parts are read.

    trained: the tensors that clients train, at the campaign's rank. membership_scale: factor for the algorithm's sums
    over all clients.
    """

    server: ServerHalf[Any]
    x: AdapterFile
    trained: Contract
    state: AdapterFile | None
    clients: Sequence[ClientFiles]
    membership_scale: float

    @property
    def has_one_shape(self) -> bool:
        """Whether all updates have the global tensors' shapes; False if a client trains a smaller rank."""
        return all(
            client.delta.tensors is self.trained.tensors
            or all(
                name in client.delta.tensors and client.delta.tensors[name].shape == spec.shape
                for name, spec in self.trained.tensors.items()
            )
            for client in self.clients
        )

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
        return self.rescaled(slots)

    def rescaled(self, state: dict[str, Array]) -> dict[str, Array]:
        """The state with the sums over all clients scaled down, if clients joined. Shapes are any."""
        for slot in self.server.client_sums if self.membership_scale != 1.0 else ():
            state[slot] = np.multiply(state[slot], self.membership_scale, dtype=np.float64).astype(np.float32)
        return state


@dataclass(frozen=True)
class OutputFiles:
    """Open output files.

    slots: the writers of state and broadcast, each with the slots that it gets; one writer if both are the same file.
    """

    adapter_path: Path
    broadcast_path: Path | None
    state_path: Path | None
    adapter: AdapterWriter
    slots: Sequence[tuple[Sequence[str], AdapterWriter]]


def open_outputs(
    stack: ExitStack,
    out: Path,
    server: ServerHalf[Any],
    adapter: Contract,
    trained: Contract,
    of_state: Contract,
) -> OutputFiles:
    """Open a round's outputs.

    Args:
        adapter: all tensors.
        trained: those that clients train.
        of_state: the contract of the state's file.

    Raises AdapterError if a slot of the broadcast has a shape that a file cannot hold.
    """
    adapter_path = out / "adapter.safetensors"
    state_path = out / "state.safetensors" if server.state else None
    broadcast_path = out / "broadcast.safetensors" if server.broadcast else None
    if server.broadcast == server.state:  # the same bytes
        broadcast_path = state_path
    writer = stack.enter_context(AdapterWriter(adapter_path, adapter))
    slots = []
    if state_path is not None:
        slots.append((server.state, stack.enter_context(AdapterWriter(state_path, of_state))))
    if broadcast_path is not None and broadcast_path != state_path:
        of_broadcast = server.slot_contract(server.broadcast, trained)
        slots.append((server.broadcast, stack.enter_context(AdapterWriter(broadcast_path, of_broadcast))))
    return OutputFiles(adapter_path, broadcast_path, state_path, writer, slots)
