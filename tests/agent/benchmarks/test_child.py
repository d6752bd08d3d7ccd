"""The training child as a thread of benchmarks asks it, and that it is left to nobody before it has ended."""

import asyncio
import sys
from pathlib import Path

import pytest

from agent.benchmarks.child import ThreadsChild
from agent.benchmarks.interface import BenchmarksStopped
from agent.child.supervisor import Supervisor
from agent.configuration.settings import ComputeSettings
from agent.orders.on_base.describe import DescribeRequest
from agent.orders.on_base.model import LocalModel
from shared.campaign.spec import BaseSection
from tests.support.processes import wait_until

ENDS_SLOWLY = """
import pathlib, signal, sys, time

def end(*_):
    time.sleep(0.5)
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
sys.stdin.readline()
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


def test_a_child_that_is_stopped_has_ended(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    model = LocalModel(base=BaseSection(model="tiny"), path=tmp_path, cache=tmp_path, fingerprint=None)
    order = DescribeRequest(compute=ComputeSettings(), model=model)

    async def stopped() -> None:
        supervisor = Supervisor([sys.executable, "-c", ENDS_SLOWLY, str(asked)])
        child = ThreadsChild(supervisor, model, ComputeSettings(), tmp_path / "log")
        asking = asyncio.create_task(asyncio.to_thread(child.run, order))
        await asyncio.to_thread(wait_until, asked.exists, "the order", 20)
        await child.stop()
        await supervisor.stop()  # as an agent that ends; two that wait for one child are an error
        with pytest.raises(BenchmarksStopped):
            await asking
        with pytest.raises(BenchmarksStopped):
            await asyncio.to_thread(child.run, order)

    asyncio.run(stopped())
