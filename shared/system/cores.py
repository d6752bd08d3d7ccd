"""The cores of this machine."""

import os


def n_cores() -> int:
    """Cores that this process may use; not every system can tell these from all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
