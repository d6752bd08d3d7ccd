"""Adapter files, read into a model with an attached adapter."""

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from agent.errors import TaskFailed
from agent.train.base.model import AttachedAdapter
from shared.adapters import AdapterError, AdapterFile, Contract, TensorSpec, slot_name
from shared.wire.leases import FailureKind

log = logging.getLogger(__name__)


def load_adapter(attached: AttachedAdapter, path: Path) -> None:
    """Copy an adapter file of any precision into the attached adapter.

    Raises TaskFailed (base-model) if the file is not an adapter, or belongs to another model.
    """
    try:
        with AdapterFile(path) as file:
            expected = attached.contract.tensors.items()
            # the shapes of this model, the dtypes of the file
            specs = {name: TensorSpec(file.tensors.get(name, spec).dtype, spec.shape) for name, spec in expected}
            Contract.of(specs).check(file)
            for name, parameter in attached.parameters.items():
                parameter.data.copy_(torch.from_numpy(file.read(name).copy()))
    except AdapterError as error:
        raise TaskFailed(FailureKind.BASE_MODEL, f"the adapter does not fit this base model: {error}") from error


def read_slots(path: Path, slots: Iterable[str], attached: AttachedAdapter) -> dict[str, dict[str, Tensor]]:
    """Read a file that holds each trained tensor once per slot: slot to name to tensor.

    Each tensor is float32, has the shape of the parameter of that name, and lies on that parameter's device. Raises
    AdapterError if the file is damaged, or belongs to another model.
    """
    slots = tuple(slots)
    with AdapterFile(path) as file:
        attached.update_contract.in_slots(slots).check(file)
        return {
            slot: {
                name: torch.from_numpy(file.read(slot_name(slot, name)).copy()).to(parameter.device)
                for name, parameter in attached.trained_parameters.items()
            }
            for slot in slots
        }


def read_broadcast(path: Path | None, slots: Iterable[str], attached: AttachedAdapter) -> dict[str, dict[str, Tensor]]:
    """Read the server half's broadcast; empty without a file. Raises TaskFailed (base-model) if it does not fit."""
    if path is None:
        return {}
    try:
        return read_slots(path, slots, attached)
    except AdapterError as error:
        message = f"the broadcast tensors do not fit this base model: {error}"
        raise TaskFailed(FailureKind.BASE_MODEL, message) from error


def read_client_state(
    path: Path | None, slots: Iterable[str], attached: AttachedAdapter
) -> dict[str, dict[str, Tensor]]:
    """Read the client state; empty without a file, or with an unusable one, which is the same as a lost state."""
    if path is None:
        return {}
    try:
        return read_slots(path, slots, attached)
    except (AdapterError, OSError) as error:
        log.warning("the client state of the algorithm cannot be used: %s", error)
        return {}
