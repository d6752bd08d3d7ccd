"""The ranks as processes: whom they listen to, that none stays behind, and that a training survives them."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.orders.job_files import CHECKPOINT_FILE
from agent.orders.order import replies_to
from agent.orders.protocol import Report
from shared.wire.tasks.leases import Phase
from tests.support.processes import wait_until
from tests.train.conftest import Child, Lab
from tests.train.distributed.ranks import MARK, RANKS, compute, listening, marked, work

pytestmark = [
    pytest.mark.train,
    pytest.mark.fault,
    pytest.mark.deep,
    pytest.mark.xdist_group("ranks"),
    pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs /proc"),
]

STEPS = 12
LOOPBACK = {"127.0.0.1", "::1"}


def begin(child: Child, order: Any, step: int) -> None:
    """Send an order, and read the child's reports until it has done a step."""
    assert child.process.stdin
    assert child.process.stdout
    child.process.stdin.write(order.model_dump_json().encode() + b"\n")
    child.process.stdin.flush()
    while True:
        reply = replies_to(type(order)).validate_json(child.process.stdout.readline())
        assert isinstance(reply, Report), reply
        if reply.progress.phase is Phase.TRAINING and reply.progress.done >= step:
            return


def test_ranks_listen_on_loopback_alone_and_end_with_rank_0_and_resume_bit_for_bit(
    lab: Lab, start_child: Callable[..., Child]
) -> None:
    """With dropout, so that the random states of both ranks must be restored."""
    adapter = lab.adapter_0()
    job = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-2}
    every_step = compute(checkpoint_every=1)
    whole, interrupted = (work(lab, adapter, job, compute=every_step) for _ in range(2))
    first = start_child(spawned=True, **{MARK: "first"})
    expected = first.result(whole)

    begin(first, interrupted, step=1)
    wait_until((interrupted.folder / CHECKPOINT_FILE).exists, "the first checkpoint", 20)
    ranks = marked("first")
    assert len(ranks) == RANKS
    addresses = [listening(pid) for pid in ranks]
    assert all(addresses), "gloo listens, so the test would see it"
    assert set.union(*addresses) <= LOOPBACK
    os.kill(first.process.pid, signal.SIGKILL)
    wait_until(lambda: not marked("first"), "the end of all ranks", 20)

    second = start_child(spawned=True, **{MARK: "second"})
    answer, reports = second.send(interrupted)
    done = [report.progress.done for report in reports if report.progress.phase is Phase.TRAINING]
    assert done[0] >= 1, "it resumed"
    assert answer.result.delta == expected.delta
    assert second.close() == 0
    wait_until(lambda: not marked("second"), "the end of all ranks", 20)


def test_a_rank_that_still_imports_its_libraries_ends_with_rank_0(lab: Lab, start_child: Callable[..., Child]) -> None:
    child = start_child("-c", START, **{MARK: "early"})
    wait_until(lambda: len(marked("early")) == RANKS, "two processes", 60)
    child.process.kill()
    wait_until(lambda: not marked("early"), "the end of both", 20)


START = """
import time
from agent.train.distributed.leader import Leader

Leader().start(2)
time.sleep(60)
"""
