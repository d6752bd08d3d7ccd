"""Rank 0: starts the other ranks, has them take part in trainings, and ends when one of them ends."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from agent.errors import TaskFailed
from agent.orders.job import LocalJob
from agent.train.distributed.group import ALONE, Group, process_group
from agent.train.distributed.numbers import check_processes
from agent.train.distributed.orders import HUB_KERNELS, RankOrder
from agent.train.process import memory

_NOTICE_S = 5.0
"""A rank that ends breaks the collectives of the others. Its own end is noticed within this time, and says why."""


class Leader:
    """The other ranks of this process. They are started when they are first needed, and end with it.

    broken: whether a training of several ranks failed. Its ranks may be anywhere in it, so the process must end.
    """

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        """gpus: what to make visible to each rank, this process's first; empty without GPUs."""
        self.broken = False
        self._gpus = gpus
        self._n_warm = 1
        self._others: list[subprocess.Popen[bytes]] = []

    def check(self, processes: int, device: torch.device) -> None:
        """Raise TaskFailed (base-model) if *processes* ranks cannot train here, this one on *device*."""
        check_processes(processes, device, len(self._gpus))

    def start(self, size: int) -> None:
        """Start the ranks below *size* that do not run yet."""
        threads = str(_share(size))
        allowed = [] if "USE_HUB_KERNELS" in os.environ else [HUB_KERNELS]
        for rank in range(len(self._others) + 1, size):
            visible = {"CUDA_VISIBLE_DEVICES": self._gpus[rank]} if self._gpus else {}
            other = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, "-m", "agent.train.distributed", str(rank), *allowed],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **visible, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            )
            self._others.append(other)
            threading.Thread(target=self._end_with, args=(other,), daemon=True).start()

    @contextmanager
    def joined(self, work: LocalJob, size: int, device: torch.device, on_load: Callable[[], None]) -> Iterator[Group]:
        """Train with *size* ranks in the block, each with its share of this process's threads.

        on_load: called if one of them is new, and has to load the base model.
        """
        if size == 1:
            yield ALONE
            return
        self.start(size)
        if size > self._n_warm:
            on_load()
        n_threads = torch.get_num_threads()
        torch.set_num_threads(_share(size))
        try:
            with tempfile.TemporaryDirectory(prefix="fedloom-ranks-") as folder:
                store = Path(folder) / "store"
                self._tell(
                    RankOrder(work=work, size=size, store=store, device=device.type, threads=torch.get_num_threads())
                )
                with process_group(0, size, store, device) as group:
                    yield group
        except BaseException as error:
            if not isinstance(error, TaskFailed) and not memory.is_exhausted(error):
                time.sleep(_NOTICE_S)  # the error may be that a rank ended, of which its watcher knows more
            self.broken = True
            raise
        self._n_warm = max(self._n_warm, size)
        torch.set_num_threads(n_threads)

    def _tell(self, order: RankOrder) -> None:
        for other in self._others[: order.size - 1]:
            assert other.stdin is not None
            other.stdin.write(order.model_dump_json().encode() + b"\n")
            other.stdin.flush()

    def _end_with(self, other: subprocess.Popen[bytes]) -> None:
        """End as another rank has ended, so that the parent sees what it would see of a single process."""
        status = other.wait()
        if status == 1:
            time.sleep(_NOTICE_S)  # rank 0 may have the same error, and says it in words
        if self.broken:
            return
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status or 1)


def _share(size: int) -> int:
    """The CPU threads of each of some ranks."""
    return max(1, torch.get_num_threads() // size)
