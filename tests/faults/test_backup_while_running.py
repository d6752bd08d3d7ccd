"""A coordinator that is lost while its agents train: its backup, restored at the same address, takes over."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.test_kills import CAMPAIGN, LEASE_TTL, final_digest, make_agents, wait_for_training
from tests.support.processes import ROOT, QuickCoordinator, ended

pytestmark = [pytest.mark.fault, pytest.mark.deep]


def command(*arguments: object) -> str:
    argv = [sys.executable, "-m", "fedloom", "coordinator", *map(str, arguments)]
    return subprocess.run(argv, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


def test_agents_continue_from_the_backup_to_the_same_digest(tmp_path: Path) -> None:
    """The backup is made in round 1. The campaign's completion and a second campaign are lost with the coordinator."""
    coordinator = QuickCoordinator(tmp_path / "coordinator", **LEASE_TTL)
    agents = make_agents(coordinator, tmp_path, step_s=0.1)
    operator, file = coordinator.operator, tmp_path / "backup.tar"
    with ended(coordinator, *agents.values()):
        for agent in agents.values():
            agent.start()
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        wait_for_training(operator, campaign_id, 1)
        for agent in agents.values():  # or a slow machine would back up a campaign that has completed
            agent.process.popen.send_signal(signal.SIGSTOP)
        assert "backed up 1 campaign, " in command("backup", file, "--with-key", "--data-dir", coordinator.data)
        for agent in agents.values():
            agent.process.popen.send_signal(signal.SIGCONT)
        digest = final_digest(operator, campaign_id)
        wait_for_training(operator, operator.post("/v1/campaigns", CAMPAIGN)["id"], 1)
        coordinator.process.kill()
        coordinator.data = coordinator.folder / "restored"
        assert "restored 1 campaign, " in command("restore", file, "--data-dir", coordinator.data)
        coordinator.start()
        assert operator.get(f"/v1/campaigns/{campaign_id}")["state"] != "completed"
        assert final_digest(operator, campaign_id) == digest
        assert len(operator.items("/v1/campaigns")) == 1
