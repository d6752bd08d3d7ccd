"""The GPU of this process: its memory, and how busy it is."""

import torch


def memory_bytes() -> int | None:
    """All memory of the GPU, in bytes; None if this process uses none."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_initialized() else None


def utilization() -> float | None:
    """Share of the last moment in which the GPU computed, for whatever process; None if that is not known.

    The driver is asked by nvidia-ml-py (amdsmi on AMD's), if that is installed.
    """
    if not torch.cuda.is_initialized():
        return None
    try:
        return min(max(torch.cuda.utilization(0) / 100, 0.0), 1.0)
    except Exception:  # noqa: BLE001 - not installed, or an error of the driver, each of a type of its own
        return None
