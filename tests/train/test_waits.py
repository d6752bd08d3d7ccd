"""What a child says while it starts and works: each thing that takes time, and what it has used of the machine."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.child.progress import ProgressTracker
from agent.child.supervisor import Supervisor
from agent.orders.job import Done, LocalJob
from agent.orders.protocol import LocalPhase, LocalProgress
from agent.train.progress import Throttle
from shared.wire.tasks.leases import Phase, Progress
from tests.support.forks.quick_children import argv
from tests.train.conftest import Lab

pytestmark = pytest.mark.train


def reported(command: list[str], folder: Path, *orders: LocalJob) -> list[list[Progress]]:
    """What one child reports of each of its orders."""
    reports: list[list[Progress]] = []

    async def work() -> None:
        supervisor = Supervisor(command)
        try:
            for order in orders:
                reports.append([])
                tracker = ProgressTracker(reports[-1].append)
                assert isinstance(await supervisor.run(order, folder / "log", tracker.report), Done)
        finally:
            await supervisor.stop()

    asyncio.run(work())
    return reports


def test_a_cold_start_names_everything_that_it_waits_for(lab: Lab, tmp_path: Path) -> None:
    adapter, cache = lab.adapter_0(), tmp_path / "cache"
    orders: list[Any] = [lab.prepare_job(), lab.train_job(adapter), lab.evaluate_job(adapter)]
    works = [lab.work(job, cache=cache, adapter=None if job is orders[0] else adapter) for job in orders]
    phases = [list(dict.fromkeys(each.phase for each in job)) for job in reported(argv(), tmp_path, *works)]
    assert phases[0] == [
        Phase.IMPORTING,
        Phase.READING_MODEL,
        Phase.TOKENIZING,
        Phase.LOADING_MODEL,
        Phase.CHECKING_MODEL,
    ]
    assert phases[1:] == [[Phase.TRAINING], [Phase.EVALUATING]], "a warm child waits for nothing"


def test_every_report_of_the_child_has_the_memory_that_it_holds(lab: Lab, tmp_path: Path) -> None:
    adapter = lab.adapter_0()
    [first, *others] = reported(argv(), tmp_path, lab.work(lab.train_job(adapter), adapter=adapter))[0]
    assert first == Progress(phase=Phase.IMPORTING), "the parent says it, and knows no memory"
    used = [each.peak_memory_bytes for each in others]
    assert used == sorted(used), "it is a peak"
    assert 50_000_000 < used[0] <= used[-1] < 20_000_000_000
    assert {(each.gpu_memory_bytes, each.gpu_utilization) for each in others} == {(None, None)}, "no GPU is used"


def test_an_evaluation_begins_before_its_first_batch(lab: Lab) -> None:
    adapter = lab.adapter_0()
    lab.run(lab.work(lab.evaluate_job(adapter), adapter=adapter))
    evaluating = [each.done for each in lab.reports if each.phase is Phase.EVALUATING]
    assert evaluating[0] == 0
    assert evaluating[-1] > 0


def test_reports_of_local_orders_pass_as_they_are() -> None:
    passed: list[Any] = []
    doing = LocalProgress(phase=LocalPhase.MERGING)
    Throttle(passed.append)(doing)
    assert passed == [doing]
