"""How much freed memory the allocator keeps."""

import contextlib
import ctypes

_ARENA_MAX, _ARENAS = -8, 2
"""The parameter of ``mallopt`` in glibc's malloc.h, and its value."""


def bound_arenas() -> None:
    """Keep what threads freed for each other. Call it before there are threads.

    glibc gives each thread an arena of its own, up to eight for each core, and what was freed in one is of no use to
    the others: the memory would grow with the agents that send at the same time. Elsewhere nothing is done.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)
