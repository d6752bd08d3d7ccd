"""One process of a program: started with its job, read with a cap, killed with all that it started."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from fedloom.evaluation.sandbox import isolation, orphans
from fedloom.evaluation.sandbox.limits import Limits

_KEEPER_SECONDS = 10.0
"""How long a keeper may take to end what its program started; then its group is killed."""


class Process:
    """A process that runs a module of ``inside``.

    Args:
        module: its name.
        job: what it reads from standard input, besides its limits.
        descriptors: what it inherits, and finds as its arguments.
        limits: what it may use.
        libraries: what it may import beside the standard library.
        bubblewrap: its path and first options; None to run without isolation.
    """

    def __init__(
        self,
        module: str,
        job: Mapping[str, Any],
        descriptors: Sequence[int],
        limits: Limits,
        libraries: Sequence[str],
        bubblewrap: Sequence[str] | None,
    ) -> None:
        self.limits = limits
        self._kept = bytearray()
        self._scratch = (
            None if bubblewrap else tempfile.TemporaryDirectory(prefix="fedloom-", ignore_cleanup_errors=True)
        )
        # in bubblewrap all processes of a program end with its namespace; without it, a keeper ends them
        modules = [f"inside.{module}"] if bubblewrap else ["inside.keeper", f"inside.{module}"]
        words = [str(isolation.interpreter()), "-P", "-s", "-S", "-B", "-X", "utf8", "-m", *modules]
        words += map(str, descriptors)
        folder = self._scratch.name if self._scratch else None
        facts = {
            "limits": rlimits(limits, bubblewrap),
            "import_from": [str(folder) for folder in isolation.folders_of(libraries)],
            "libraries": list(libraries),
        }
        self._info: int | None = None
        inherited = list(descriptors)
        if bubblewrap:
            self._info, info = os.pipe()
            inherited.append(info)
            words = [*isolation.isolated(bubblewrap, limits, libraries, info), *words]
        with tempfile.TemporaryFile() as job_file:
            job_file.write(json.dumps({**job, **facts}).encode())
            job_file.seek(0)
            self._process = subprocess.Popen(  # noqa: S603
                words,
                stdin=job_file,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={} if bubblewrap else isolation.environment(str(isolation.INSIDE.parent)),
                pass_fds=inherited,
                start_new_session=True,  # a group of its own, and Ctrl-C is not for it
            )
        for descriptor in inherited[len(descriptors) :]:
            os.close(descriptor)
        assert self._process.stdout is not None
        self.output = self._process.stdout
        os.set_blocking(self.output.fileno(), False)

    def read(self) -> bool:
        """Read what it printed. Returns False once it will print no more."""
        with suppress(BlockingIOError):
            chunk = os.read(self.output.fileno(), 65536)
            room = self.limits.output - len(self._kept)
            self._kept += chunk[: max(0, room)]
            return bool(chunk)
        return True

    def printed(self) -> str:
        """The beginning of what it printed so far."""
        with suppress(BlockingIOError):
            while (room := self.limits.output - len(self._kept)) > 0:
                chunk = os.read(self.output.fileno(), room)
                if not chunk:
                    break
                self._kept += chunk
        return self._kept.decode(errors="replace")

    def kill(self) -> None:
        """End it and all that it ever started."""
        if self._scratch:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_KEEPER_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._info is not None:
            orphans.reap_namespace(self._info)
            self._info = None
        self.output.close()
        if self._scratch:
            self._scratch.cleanup()


def rlimits(limits: Limits, bubblewrap: Sequence[str] | None) -> dict[str, int | None]:
    """Limits as ``inside.confined`` takes them."""
    # without a user of its own, processes are counted with those of whoever runs this
    processes = limits.processes if bubblewrap else None
    return {
        "user": isolation.user_within() if bubblewrap else None,
        "AS": limits.memory,
        "FSIZE": limits.file,
        "NPROC": processes,
        "NOFILE": limits.descriptors,
        "CORE": 0,
    }
