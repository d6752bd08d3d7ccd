"""What a training ran on, as far as its numbers depend on it."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from shared.text.unsafe import one_line
from shared.wire.tasks.results import MAX_MACHINE

_LIBRARIES = ("torch", "transformers", "peft", "trl")
_CPUS = Path("/proc/cpuinfo")


def describe_machine(device: torch.device, processes: int) -> str:
    """Name the kind of processor, the number of its threads and processes, and the libraries with their versions.

    On CPUs two trainings with equal descriptions give equal bits. Nothing in it identifies a machine.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    together = f", {processes} processes" if processes > 1 else ""
    return one_line(f"{_processor(device)}{together}; {libraries}", MAX_MACHINE)


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu()}, {threads} thread{'' if threads == 1 else 's'}" + (", mps" if device.type == "mps" else "")


def _cpu() -> str:
    """The kind of processor, as Linux names it, or as Python does elsewhere."""
    try:
        lines = _CPUS.read_bytes().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, names), "") or platform.processor() or platform.machine()
