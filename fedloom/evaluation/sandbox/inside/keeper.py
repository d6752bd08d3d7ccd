"""Stands between an unisolated process and whoever started it, so that nothing that it starts outlives it.

A program may leave its process group with ``setsid``, and its parent with a double fork. Linux then makes this process
their parent, as it asks to be: it finds them by that. It ends them when the program ends, at SIGTERM, and when whoever
started it is gone. Other systems have no such thing; there only the group ends.
"""

import contextlib
import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path

_PDEATHSIG, _SUBREAPER = 1, 36
_WATCHED = (signal.SIGTERM, signal.SIGCHLD)


def main() -> None:
    """Run the module that the first argument names, and end all that it leaves."""
    module, *descriptors = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    program = os.fork()
    if program == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        sys.argv = [module, *descriptors]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    for descriptor in [0, 1, 2, *map(int, descriptors)]:
        os.close(descriptor)  # their other ends must see the program's end
    while signal.sigwait(_WATCHED) == signal.SIGCHLD and not _has_ended(program):
        pass
    _end_all()
    os._exit(0)


def _has_ended(program: int) -> bool:
    """Reap all that has ended. Returns whether the program is among it."""
    found = False
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            found |= ended == program
    return found


def _end_all() -> None:
    """Kill and reap children until there are none: those of a killed one become ours."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for child in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    """The processes whose parent this is. Where no ``/proc`` tells, those of the group are killed by its starter."""
    own, found = str(os.getpid()), []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_bytes().rpartition(b")")[2].split()
            if fields[1].decode() == own:
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    main()
