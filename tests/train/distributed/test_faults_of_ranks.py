"""A rank that fails: the parent sees what it would see of one process, and the training goes on from its checkpoint."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.child.supervisor import ChildDied, Supervisor
from agent.orders.job import Done, LocalJob
from agent.orders.protocol import Failed, OutOfMemory
from shared.wire.tasks.leases import FailureKind, Phase
from tests.support.entry_points import write_out
from tests.support.processes import ROOT, wait_until
from tests.train.conftest import Lab
from tests.train.distributed.ranks import MARK, compute, difference, marked, work
from tests.train.kinds.test_training import NO_DROPOUT

pytestmark = [pytest.mark.train, pytest.mark.fault, pytest.mark.deep, pytest.mark.xdist_group("ranks")]

JOB: dict[str, Any] = {
    "lora": NO_DROPOUT,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "max_grad_norm": None,
    "steps": 6,
}
N_MICRO_BATCHES = 2
"""Of each step, in each rank."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    site = write_out(Path(__file__).parent / "faulty", tmp_path_factory.mktemp("site"))
    return {"PYTHONPATH": f"{site}:{ROOT}", MARK: "faulty"}


class Parent:
    """Has a supervisor carry out orders; what it saw of each."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._supervisor = Supervisor(environment=environment)
        self.log = log
        self.steps: list[int] = []

    async def run(self, order: LocalJob) -> Any:
        self.steps.clear()
        try:
            return await self._supervisor.run(order, self.log, self._note)
        except ChildDied as died:
            return died

    def _note(self, progress: Any) -> None:
        if progress.phase is Phase.TRAINING:
            self.steps.append(progress.done)

    async def stop(self) -> None:
        await self._supervisor.stop()


@pytest.fixture
def parent(environment: dict[str, str], tmp_path: Path) -> Iterator[Parent]:
    yield Parent(environment, tmp_path / "log")
    wait_until(lambda: not marked("faulty"), "the end of all ranks", 20)


def faulty(lab: Lab, fault: str, *, step: int = 1, rank: int = 1, **changes: Any) -> LocalJob:
    params = {"fault": fault, "rank": rank, "micro_batch": (step - 1) * N_MICRO_BATCHES + 1}
    adapter = lab.adapter_0(NO_DROPOUT)
    job = JOB | {"training_kind": "faulty", "kind_params": params}
    return work(lab, adapter, job, **({"compute": compute(checkpoint_every=1)} | changes))


def expected(lab: Lab) -> LocalJob:
    order = work(lab, lab.adapter_0(NO_DROPOUT), JOB, processes=1)
    lab.run(order)
    return order


def test_a_killed_rank_ends_the_child_as_if_it_had_been_killed_and_the_next_resumes(lab: Lab, parent: Parent) -> None:
    order = faulty(lab, "kill", step=5)

    async def play() -> list[Any]:
        try:
            # the same training twice: the resumed one has too few steps left for the fault
            return [await parent.run(order), await parent.run(order)]
        finally:
            await parent.stop()

    died, done = asyncio.run(play())
    assert isinstance(died, ChildDied)
    assert died.exit_code == -9
    assert died.out_of_memory, "as of one process: the kernel kills what takes too much"
    assert isinstance(done, Done), parent.log.read_text()[-3000:]
    assert parent.steps[0] >= 3, "it resumed: batches are made one ahead, so the fault was in the fourth step or after"
    assert difference(expected(lab).folder, order.folder) < 1e-5


@pytest.mark.parametrize("rank", [0, 1])
def test_memory_that_runs_out_in_any_rank_is_told_and_a_smaller_micro_batch_is_right(
    lab: Lab, parent: Parent, rank: int
) -> None:
    order = faulty(lab, "memory", step=3, rank=rank)

    async def play() -> list[Any]:
        try:
            return [await parent.run(order), await parent.run(order.model_copy(update={"micro_batch": 1}))]
        finally:
            await parent.stop()

    first, second = asyncio.run(play())
    assert isinstance(first, OutOfMemory) or (isinstance(first, ChildDied) and first.out_of_memory), first
    assert isinstance(second, Done), parent.log.read_text()[-3000:]
    assert difference(expected(lab).folder, order.folder) < 1e-5


def test_an_error_of_a_rank_ends_the_child_and_a_refusal_of_rank_0_has_its_words(lab: Lab, parent: Parent) -> None:
    async def play() -> list[Any]:
        try:
            return [
                await parent.run(faulty(lab, "error")),
                await parent.run(faulty(lab, "refusal", rank=0)),
                await parent.run(faulty(lab, "error", rank=0)),
                await parent.run(faulty(lab, "none")),
            ]
        finally:
            await parent.stop()

    died, refused, crashed, done = asyncio.run(play())
    assert isinstance(died, ChildDied)
    assert (died.exit_code, died.out_of_memory) == (1, False)
    assert "ZeroDivisionError" in parent.log.read_text()
    assert isinstance(refused, Failed)
    assert (refused.failure.kind, refused.failure.message) == (FailureKind.DATA, "this row cannot be")
    assert refused.ends_child
    assert isinstance(crashed, Failed)
    assert crashed.failure.message == "ZeroDivisionError in the training process; see the agent's log"
    assert isinstance(done, Done)
