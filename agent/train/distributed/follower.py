"""A rank above 0: takes part in the trainings that rank 0 names, and writes nothing."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.orders.jobs import TrainJob
from agent.orders.protocol import OUT_OF_MEMORY_EXIT
from agent.train.base.refusals import unusable
from agent.train.distributed.orders import RankOrder

if TYPE_CHECKING:
    import torch

    from agent.orders.job import LocalJob
    from agent.train.distributed.group import Group


class Follower:
    """This rank's part in one training. It stands where rank 0 has its ``Leader``."""

    broken = False

    def __init__(self, rank: int, order: RankOrder) -> None:
        self._rank, self._order = rank, order

    def check(self, processes: int, device: "torch.device") -> None:
        """Nothing: rank 0 has checked it."""

    def start(self, size: int) -> None:
        """Nothing: rank 0 starts all others."""

    @contextmanager
    def joined(
        self,
        work: "LocalJob",  # noqa: ARG002
        size: int,  # noqa: ARG002
        device: "torch.device",
        on_load: Callable[[], None],  # noqa: ARG002
    ) -> Iterator["Group"]:
        """Train with the other ranks in the block. Raises TaskFailed (base-model) without the device for it."""
        from agent.train.distributed.group import process_group

        if device.type != self._order.device:
            raise unusable(f"rank {self._rank} would train on {device.type}, and rank 0 on {self._order.device}")

        with process_group(self._rank, self._order.size, self._order.store, device) as group:
            yield group


def follow(rank: int, lines: Iterable[bytes]) -> int:
    """Take part in each training of the lines. Returns the exit status after an error, which rank 0 then ends with."""
    import torch

    from agent.train.jobs.context import JobContext
    from agent.train.jobs.train import train
    from agent.train.process import memory
    from agent.train.worker import Worker

    warm = Worker().warm
    for line in lines:
        try:
            order = RankOrder.model_validate_json(line)
            warm.ranks = Follower(rank, order)
            assert isinstance(order.work.job, TrainJob)
            memory.reset_peak()
            torch.set_num_threads(order.threads)
            train(JobContext(warm, order.work, lambda _: None), order.work.job)
        except Exception as error:  # noqa: BLE001 - whatever it is, this rank is of no further use
            traceback.print_exc()
            return OUT_OF_MEMORY_EXIT if memory.is_exhausted(error) else 1
    return 0
