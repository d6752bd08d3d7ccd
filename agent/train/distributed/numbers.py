"""How many ranks train, and whether this machine has a device for each."""

import logging

import torch

from agent.train.base.refusals import unusable

log = logging.getLogger(__name__)

_DEVICES = ("cpu", "cuda")


def size_of(batch_size: int, processes: int) -> int:
    """The number of ranks that train: the largest divisor of *batch_size* up to *processes*.

    Each rank then has as many rows of a step, and the step has exactly those of one process.
    """
    return next(size for size in range(min(batch_size, processes), 0, -1) if batch_size % size == 0)


def check_processes(processes: int, device: torch.device, n_gpus: int) -> None:
    """Raise TaskFailed (base-model) if *processes* ranks cannot train here.

    Args:
        processes: as the settings name it.
        device: where rank 0 trains.
        n_gpus: GPUs from that of rank 0 on.
    """
    if processes == 1:
        return
    setting = f"compute.processes in agent.toml is {processes}"
    if device.type not in _DEVICES:
        raise unusable(f"{setting}, and several processes train on CPUs or CUDA GPUs only, not on {device.type}")
    if device.type == "cuda" and n_gpus < processes:
        raise unusable(f"{setting}, one for each GPU, and there are {n_gpus}: set it to {n_gpus}")


def told_size(batch_size: int, processes: int) -> int:
    """As ``size_of``; says so if processes stay idle."""
    size = size_of(batch_size, processes)
    if size < processes:
        log.warning(
            "%d of %d processes train: the campaign's steps of %d rows divide among no more",
            size,
            processes,
            batch_size,
        )
    return size
