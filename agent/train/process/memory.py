"""Memory: its peak, and whether an error means that it ran out."""

import contextlib
import sys
from pathlib import Path

import torch

_MESSAGES = (
    "can't allocate memory",  # torch's CPU allocator
    "defaultcpuallocator",
    "out of memory",  # MPS, and CUDA libraries below torch's own allocator
    "cublas_status_alloc_failed",
)
_PROCESS_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def is_exhausted(error: BaseException) -> bool:
    """Whether *error* means that memory ran out, on the CPU or on a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _MESSAGES)


def reset_peak() -> None:
    """Reset the peak, if the system supports it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process may still take: of the GPU, or of the machine's memory; None if the system does not say.

    A limit on the process's group, as a container has, counts too.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    if device.type != "cpu":
        return None
    with contextlib.suppress(OSError, ValueError):
        fields = dict(line.split(":", 1) for line in _MACHINE.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such limit: the file is absent, or says "max"
            limit, used = (int((_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
            parts = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
            cached = int(parts["active_file"]) + int(parts["inactive_file"])  # given up when memory is short
            free = min(free, max(0, limit - used + cached))
        return free
    return None


def peak_bytes() -> int:
    """Peak memory in bytes since ``reset_peak``: of the GPU if this process used one, otherwise its resident set.

    Returns 0 on Windows without a GPU.
    """
    if torch.cuda.is_initialized() and (on_gpu := torch.cuda.max_memory_allocated()):
        return int(on_gpu)
    with contextlib.suppress(OSError):
        for line in _PROCESS_STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
