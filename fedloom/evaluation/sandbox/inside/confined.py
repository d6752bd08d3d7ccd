"""The limits of a process, set before anything untrusted runs in it. They are hard: it cannot lift them."""

import contextlib
import importlib.util
import json
import os
import resource
import sys
from typing import Any


def read_job() -> dict[str, Any]:
    """The job from standard input; the limits in it are in force after this."""
    job: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    forget_the_way_in()
    sys.path.extend(job["import_from"])
    sys.set_int_max_str_digits(0)
    confine(job["limits"])
    for name in job["libraries"]:
        check_readable(name)
    return job


def check_readable(library: str) -> None:
    """Raise PermissionError if this user may not read a library: a program that needs it would fail for no fault."""
    spec = importlib.util.find_spec(library)
    if spec is None or not os.access(str(spec.origin), os.R_OK):
        raise PermissionError(f"the user of the sandbox may not read {library}; let others read where it is installed")


def confine(limits: dict[str, int | None]) -> None:
    """Become the user of the sandbox, if there is one, and limit memory, files, processes and descriptors."""
    user = limits["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    for name in ("AS", "FSIZE", "NPROC", "NOFILE", "CORE"):
        most = limits[name]
        if most is not None:
            number = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(number)[1]
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(number, (least, least))


def forget_the_way_in() -> None:
    """Nothing of the sandbox can be imported from now on."""
    way = os.environ.pop("PYTHONPATH")
    with contextlib.suppress(ValueError):
        sys.path.remove(way)


def tell(descriptor: int, message: list[str]) -> None:
    """One line of JSON to whoever started this process."""
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


def words(error: BaseException) -> str:
    """An exception in one short line."""
    try:
        text = f"{type(error).__name__}: {error}".strip().rstrip(":")
    except Exception:  # an answer's own class may fail to print itself  # noqa: BLE001
        text = type(error).__name__
    return " ".join(text.split())[:500]
