"""Adapter files, read into a model with an attached adapter."""

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from agent.errors import TaskFailed
from agent.installed import InstalledClient
from agent.train.base.attached import AttachedAdapter
from shared.adapters.files import AdapterError, AdapterFile, Contract, TensorSpec, slot_name
from shared.adapters.lora import at_rank, cut
from shared.adapters.updates import UpdateFile
from shared.algorithms import AlgorithmParams
from shared.wire.tasks.leases import FailureKind

log = logging.getLogger(__name__)


def load_adapter(attached: AttachedAdapter, path: Path, *, rank: int | None = None) -> None:
    """Copy an adapter file of any precision into the attached adapter.

    rank: the file's, if it is above the adapter's: then the adapter takes the first components. Raises TaskFailed
    (base-model) if the file is not an adapter, or belongs to another model.
    """
    try:
        with AdapterFile(path) as file:
            whole = attached.contract if rank is None or rank == attached.rank else at_rank(attached.contract, rank)
            # the shapes of this model, the dtypes of the file
            expected = whole.tensors.items()
            specs = {name: TensorSpec(file.tensors.get(name, spec).dtype, spec.shape) for name, spec in expected}
            Contract.of(specs).check(file)
            for name, parameter in attached.parameters.items():
                values = file.read(name)
                values = values if rank is None or rank == attached.rank else cut(name, values, attached.rank)
                parameter.data.copy_(torch.from_numpy(values.copy()))
    except AdapterError as error:
        raise TaskFailed(FailureKind.BASE_MODEL, f"the adapter does not fit this base model: {error}") from error


def add_update(attached: AttachedAdapter, path: Path, *, rank: int) -> None:
    """Add an update, as its reader gets it, to the attached adapter: to its first components, if it is of a smaller
    rank.

    rank: the update's. Raises TaskFailed (base-model) if the file is no update of the adapter.
    """
    try:
        whole = attached.update_contract
        expected = whole if rank == attached.rank else at_rank(whole, rank)
        with UpdateFile(path, like=expected) as file:
            expected.check(file)
            for name, parameter in attached.trained_parameters.items():
                values = torch.from_numpy(file.read(name).copy()).to(parameter.device)
                parameter.data[tuple(slice(n) for n in values.shape)] += values
    except AdapterError as error:
        raise TaskFailed(FailureKind.BASE_MODEL, f"the update does not fit this base model: {error}") from error


def read_slots(
    path: Path, slots: Iterable[str], attached: AttachedAdapter, contract: Contract
) -> dict[str, dict[str, Tensor]]:
    """Read a file that holds a tensor for each trained tensor and slot: slot to name to tensor.

    Args:
        path: the file.
        slots: the slots in it.
        attached: each tensor lies on the device of the parameter of its name.
        contract: of the file, in float32.

    Raises AdapterError if the file is damaged, or does not fit the contract.
    """
    with AdapterFile(path) as file:
        contract.check(file)
        return {
            slot: {
                name: torch.from_numpy(file.read(slot_name(slot, name)).copy()).to(parameter.device)
                for name, parameter in attached.trained_parameters.items()
            }
            for slot in slots
        }


def read_broadcast(
    path: Path | None, client: InstalledClient, params: AlgorithmParams, attached: AttachedAdapter, *, rank: int
) -> dict[str, dict[str, Tensor]]:
    """Read the server half's broadcast; empty without a file.

    Args:
        path: the file, or None.
        client: the algorithm as installed here, which gives the broadcast's shapes.
        params: the algorithm's parameters.
        attached: the adapter that is trained, of the client's rank.
        rank: the campaign's.

    Raises TaskFailed (base-model) if it does not fit.
    """
    if path is None:
        return {}
    try:
        contract = client.broadcast_contract(params, at_rank(attached.update_contract, rank))
        return read_slots(path, client.server.broadcast, attached, contract)
    except AdapterError as error:
        message = f"the broadcast tensors do not fit this base model and the algorithm as installed here: {error}"
        raise TaskFailed(FailureKind.BASE_MODEL, message) from error


def read_client_state(
    path: Path | None, slots: Iterable[str], attached: AttachedAdapter
) -> dict[str, dict[str, Tensor]]:
    """Read the client state; empty without a file, or with an unusable one, which is the same as a lost state."""
    if path is None:
        return {}
    try:
        slots = tuple(slots)
        return read_slots(path, slots, attached, attached.update_contract.in_slots(slots))
    except (AdapterError, OSError) as error:
        log.warning("the client state of the algorithm cannot be used: %s", error)
        return {}
