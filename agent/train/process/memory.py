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
