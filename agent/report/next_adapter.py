"""The adapter after a round of one client: by FedAvg's own server half, so with the bytes that a coordinator gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared import algorithms
from shared.adapters.files import AdapterFile, AdapterWriter, Array, check_finite
from shared.adapters.lora import trained
from shared.algorithms import Updates, UpdateTensor
from shared.campaign.spec import LoraSection
from shared.digest import sha256_file
from shared.system.durable import atomic_write

_FEDAVG = "fedavg"


def write_next(adapter: Path, delta: Path, lora: LoraSection, out: Path) -> str:
    """Write the adapter with the delta added, for this user only, and return its SHA-256.

    A delta of a smaller rank changes the first components. Raises AdapterError if a file is damaged or the result is
    not finite, and OSError.

    Args:
        adapter: the file that the round started from.
        delta: the client's update.
        lora: the campaign's section.
        out: the file to write.
    """
    fedavg = algorithms.find(_FEDAVG)
    server = fedavg.server(fedavg.params())
    with AdapterFile(adapter) as x_file, AdapterFile(delta) as change, atomic_write(out, mode=0o600) as file:
        changing = trained(x_file.contract, lora).tensors
        with AdapterWriter(file, x_file.contract) as writer:
            for name in x_file.tensors:
                x = x_file.read(name)
                if name not in changing:
                    writer.write(name, x)
                    continue
                update = UpdateTensor(1.0, 1.0, x.shape, _read(change, name, x.shape))
                values = np.asarray(server.aggregate(x, Updates([update], name, x.shape), {}, first=True), np.float32)
                check_finite(name, values)
                writer.write(name, values)
    return sha256_file(out)


def _read(change: AdapterFile, name: str, shape: tuple[int, ...]) -> Callable[[str], Array]:
    def read(_slot: str) -> Array:
        values = change.read(name)
        if values.shape == shape:
            return values
        whole = np.zeros(shape, np.float32)
        whole[tuple(slice(n) for n in values.shape)] = values
        return whole

    return read
