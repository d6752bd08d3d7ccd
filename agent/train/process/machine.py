"""What a training ran on, as far as its numbers depend on it."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from shared.text.unsafe import one_line
from shared.wire.tasks.results import MAX_MACHINE

_LIBRARIES = ("torch", "transformers", "peft", "trl")
_CPUS = Path("/proc/cpuinfo")


def describe_machine(device: torch.device, dtype: torch.dtype, processes: int = 1, trainer: str = "") -> str:
    """Name the kind of processor, the number of its threads and processes, and the libraries with their versions.

    On CPUs two trainings with equal descriptions give equal bits if the base is float32, and neither was short of
    memory: the micro-batch is left out, as it tells lengths of rows. Nothing in it identifies a machine.

    Args:
        device: where the base is.
        dtype: the base's, which is named if it is not float32.
        processes: that trained together.
        trainer: the owner's own, if one trained.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    rounded = "" if dtype == torch.float32 else f", base in {str(dtype).removeprefix('torch.')}"
    together = f", {processes} processes" if processes > 1 else ""
    parts = (f"{_processor(device)}{together}{rounded}", f"trainer {trainer}" if trainer else "", libraries)
    return one_line("; ".join(filter(None, parts)), MAX_MACHINE)


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
