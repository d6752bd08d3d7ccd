"""Adapter files, read into a lent model."""

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
    """Copy an adapter file into the lent model, whatever its precision. Raises TaskFailed (base-model) where it is no
    adapter, or another model's."""
    try:
        with AdapterFile(path) as file:
            expected = attached.contract.tensors.items()
            in_file = {name: TensorSpec(file.tensors.get(name, spec).dtype, spec.shape) for name, spec in expected}
            Contract.of(in_file).check(file)
            for name, value in attached.adapter.items():
                value.data.copy_(torch.from_numpy(file.read(name).copy()))
    except AdapterError as error:
        raise TaskFailed(FailureKind.BASE_MODEL, f"the adapter does not fit this base model: {error}") from error


def read_slots(path: Path, slots: Iterable[str], attached: AttachedAdapter) -> dict[str, dict[str, Tensor]]:
    """A file with each trained tensor once for every slot, as slot to name to tensor on the model's device.

    Raises AdapterError where it is another model's, or broken.
    """
    slots = tuple(slots)
    with AdapterFile(path) as file:
        attached.update_contract.in_slots(slots).check(file)
        return {
            slot: {
                name: torch.from_numpy(file.read(slot_name(slot, name)).copy()).to(value.device)
                for name, value in attached.trained.items()
            }
            for slot in slots
        }


def read_broadcast(path: Path | None, slots: Iterable[str], attached: AttachedAdapter) -> dict[str, dict[str, Tensor]]:
    """What the server half sent; nothing without a file. Raises TaskFailed (base-model) where it does not fit."""
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
    """What this client kept; nothing where there is no file, or one that cannot be used: it is then as good as lost."""
    if path is None:
        return {}
    try:
        return read_slots(path, slots, attached)
    except (AdapterError, OSError) as error:
        log.warning("what was kept for the algorithm cannot be used: %s", error)
        return {}
