"""An agent whose trainings take two processes: through a campaign, over a killed one, and without any left behind."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from agent.orders.job_files import CHECKPOINT_FILE
from tests.e2e.test_training import CAMPAIGN, SETTINGS, make_agent
from tests.support.processes import QuickCoordinator, ended, wait_until
from tests.train.distributed.ranks import MARK, listening, marked

pytestmark = [
    pytest.mark.train,
    pytest.mark.fault,
    pytest.mark.deep,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

TWO = SETTINGS.replace("threads = 1", "threads = 2\nprocesses = 2\ncheckpoint_every = 1")
STEPS = 60
RANK_1 = "agent.train.distributed"


def rank_1() -> list[int]:
    """The process of rank 1, once it listens."""
    found = []
    for pid in marked("campaign"):
        with suppress(OSError):  # it has ended
            if RANK_1.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() and listening(pid):
                found.append(pid)
    return found


def test_a_campaign_goes_on_after_a_killed_rank_and_a_killed_agent_leaves_no_process(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    agent = make_agent(coordinator, tmp_path / "ada", model, "\n".join(map(json.dumps, ROWS)), TWO)
    agent.environment |= {MARK: "campaign"}
    campaign = CAMPAIGN | {
        "algorithm": {"name": "scaffold"},
        "selection": {"minimum": 1},
        "training": CAMPAIGN["training"] | {"steps": STEPS},  # type: ignore[operator]
    }
    with ended(coordinator, agent):
        agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", campaign)["id"]
        wait_until(lambda: list(agent.home.glob(f"tasks/*/{CHECKPOINT_FILE}")), "a checkpoint")
        [victim] = rank_1()
        os.kill(victim, signal.SIGKILL)
        agent.process.wait_to_print("out of memory with a micro-batch of 16; trying 8")

        wait_until(lambda: rank_1() not in ([], [victim]), "another rank 1")
        beyond = {address for pid in marked("campaign") for address in listening(pid)} - {"127.0.0.1", "::1"}
        assert not beyond
        agent.process.kill()
        wait_until(lambda: not marked("campaign"), "the end of all processes of the agent", 20)

        agent.start()
        done = operator.wait_for(campaign_id, "completed", "paused", timeout_s=300)
        assert done["state"] == "completed", done["reason"]
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    losses = [adapter["metrics"]["held_out_loss"] for adapter in adapters]
    assert losses[2] < losses[1] < losses[0]
    [share] = adapters[2]["contributions"]
    assert "1 thread, 2 processes;" in share["trained_on"]
