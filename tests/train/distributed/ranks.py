"""Trainings in several processes of a real child, and what these processes are seen to do."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from agent.configuration.settings import ComputeSettings
from agent.orders.job import LocalJob
from agent.orders.job_files import DELTA_FILE
from tests.train.conftest import Lab, read

RANKS = 2
MARK = "FEDLOOM_TEST_MARK"
"""An environment variable by which the processes of one test are found."""
_LISTENS = "0A"


def compute(processes: int = RANKS, **changes: Any) -> ComputeSettings:
    """As many threads as processes, so one each."""
    return ComputeSettings(device="cpu", **({"threads": processes, "processes": processes} | changes))


def work(lab: Lab, adapter: Path, job: Mapping[str, Any], processes: int = RANKS, **changes: Any) -> LocalJob:
    fields = {"adapter": adapter, "micro_batch": 2, "compute": compute(processes)} | changes
    return lab.work(lab.train_job(adapter, **({"batch_size": 8} | job)), **fields)


def difference(one: Path, other: Path) -> float:
    """The largest difference of the deltas of two tasks' folders, relative to the largest value of the first."""
    first, second = (read(folder / DELTA_FILE) for folder in (one, other))
    assert first.keys() == second.keys()
    largest = max(float(np.abs(values).max()) for values in first.values())
    return max(float(np.abs(second[name] - values).max()) for name, values in first.items()) / largest


def marked(mark: str) -> list[int]:
    """The processes with this mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended, or belongs to somebody else
            continue
    return sorted(found)


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens."""
    sockets = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(str(path.readlink()))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and f"socket:[{fields[9]}]" in sockets:
                raw = bytes.fromhex(fields[1].partition(":")[0])
                words = [
                    raw[at : at + 4][::-1] for at in range(0, len(raw), 4)
                ]  # the kernel prints words as it has them
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found
