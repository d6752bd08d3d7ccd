"""bubblewrap: found, tried once, and the command line that isolates one process.

A process sees the interpreter, its standard library, the system's shared libraries and the libraries it is given, all
read-only; ``/proc`` of itself alone, a ``/tmp`` of its own, and no network. It does not see homes, this installation,
data, or any other process.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fedloom.evaluation.sandbox import orphans
from fedloom.evaluation.sandbox.limits import FUNCTION, Limits

INSIDE = Path(__file__).parent / "inside"
WAY_IN = "/sandbox"
_NO_NAMESPACES = "--disable-userns"
"""No namespaces of its own for a program, in which it has more of the kernel to attack; from bubblewrap 0.8 on.

It needs a namespace of users, which root does without.
"""
HOW = (
    "Install bubblewrap 0.7 or newer (Debian and Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap). "
    "Or pass --run-untrusted-code: programs that the model wrote then run with limits but without isolation, with "
    "your rights, and can read and change what you can."
)


class NoIsolation(Exception):
    """Programs cannot be isolated here, and the caller did not say that they may run without."""


def find_bubblewrap() -> list[str]:
    """The path of a bubblewrap that works here, and what more of it works here. Raises NoIsolation."""
    found = shutil.which("bwrap")
    if found is None:
        raise NoIsolation(f"Code that a model writes runs in bubblewrap, and bwrap is not installed. {HOW}")
    try:
        if os.geteuid() != 0 and _tried([found, _NO_NAMESPACES]).returncode == 0:
            return [found, _NO_NAMESPACES]
        tried = _tried([found])
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoIsolation(f"{found} does not run here: {error}. {HOW}") from error
    if tried.returncode != 0:
        said = " ".join(tried.stderr.split())[:300] or f"exit code {tried.returncode}"
        raise NoIsolation(
            f"{found} is installed but does not work here: {said}. It needs namespaces, which some containers and "
            f"kernels deny. {HOW}"
        )
    return [found]


def _tried(bubblewrap: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    read, write = os.pipe()
    command = [*isolated(bubblewrap, FUNCTION, (), write), "true"]
    with orphans.adopted():
        try:
            return subprocess.run(  # noqa: S603
                command, check=False, capture_output=True, text=True, timeout=60, pass_fds=[write]
            )
        finally:
            os.close(write)
            orphans.reap_namespace(read)


def isolated(bubblewrap: Sequence[str], limits: Limits, libraries: Sequence[str], info: int | None = None) -> list[str]:
    """The command line before the command that is isolated. info: where bubblewrap writes the namespace's first pid."""
    words = [*bubblewrap, "--die-with-parent", "--new-session", "--clearenv"]
    words += ["--info-fd", str(info)] if info is not None else []
    words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    # root keeps the means to become another user, whose processes the kernel counts; see confined.py
    words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if os.geteuid() == 0 else ["--unshare-user"]
    for name, value in environment(WAY_IN).items():
        words += ["--setenv", name, value]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for scratch in ("/dev/shm", "/tmp"):  # noqa: S108
        words += ["--perms", "1777", "--size", str(limits.scratch), "--tmpfs", scratch]
    # after those: an environment that is itself below /tmp would be hidden, and every program that needs it fail
    paths = readable(libraries)
    for folder in sorted({folder for path in paths for folder in path.parents if folder != Path("/")}):
        words += ["--perms", "0755", "--dir", str(folder)]  # bubblewrap would make them for its own user alone
    for path in paths:
        words += ["--ro-bind", str(path), str(path)]
    for name in ("lib", "lib32", "lib64", "bin"):
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            words += ["--ro-bind", str(path), str(path)]
    for also in ("/etc/ld.so.cache", "/etc/alternatives", "/usr/share/zoneinfo"):
        words += ["--ro-bind-try", also, also]
    words += ["--perms", "0755", "--dir", WAY_IN, "--ro-bind", str(INSIDE), f"{WAY_IN}/inside"]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"]  # noqa: S108


def readable(libraries: Sequence[str]) -> list[Path]:
    """What a process can read: the system's libraries, the interpreter, and folders of libraries."""
    base = Path(sys.base_prefix)
    paths = [Path("/usr/lib"), Path("/usr/lib32"), Path("/usr/lib64"), Path("/usr/bin"), base / "lib", interpreter()]
    return [path for path in dict.fromkeys([*paths, *folders_of(libraries)]) if path.exists()]


def interpreter() -> Path:
    """The interpreter itself, without the links of a virtual environment."""
    return Path(sys.executable).resolve()


def folders_of(libraries: Sequence[str]) -> list[Path]:
    """Where libraries are installed. Raises ModuleNotFoundError."""
    folders = []
    for name in libraries:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name} is not installed", name=name)
        file = Path(spec.origin)
        folders.append(file.parent.parent if spec.submodule_search_locations else file.parent)
    return list(dict.fromkeys(folders))


def environment(way_in: str) -> dict[str, str]:
    """All environment variables of a process. The seed of hashes is fixed, so that a program does the same again."""
    fixed = {"PATH": "/usr/bin", "PYTHONPATH": way_in, "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg", "HOME": "/tmp"}  # noqa: S108
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    processor = {name: os.environ[name] for name in ("OPENBLAS_CORETYPE",) if name in os.environ}
    return fixed | threads | processor


def user_within() -> int | None:
    """A user without rights to become, under root; another one for each process, so that each is counted alone."""
    return random.SystemRandom().randrange(40_000, 60_000) if os.geteuid() == 0 else None
