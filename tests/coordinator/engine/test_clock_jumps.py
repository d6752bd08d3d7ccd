"""Clocks that jump by hours, while the coordinator runs or is stopped: the campaign continues."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

Enroll = Callable[..., ScriptedAgent]
HOURS = 3600.0


@pytest.mark.usefixtures("either_coordinator")
def test_a_jump_ahead_costs_leases_and_no_work(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], deadline={"round_s": 60})
    first = ada.lease("train")
    delta = adapter_bytes(tmp_path, 1.0)
    digest = ada.upload(first, "delta", delta)
    either_coordinator.clock.move(5 * HOURS)
    operator.wait_until(lambda: operator.events(campaign_id), lambda found: "lease-expired" in found)
    assert ada.result(first, ada.train_result(digest)).status_code == 410
    again = ada.lease("train")
    assert (again["task_id"], again["attempt"]) == (first["task_id"], 2)
    started = ada.start_upload(again, "delta", delta).json()
    assert started["offset"] == len(delta), "the upload from before the jump is kept"
    assert ada.result(again, ada.train_result(digest)).status_code == 200
    bob.train(adapter_bytes(tmp_path, 3.0))
    operator.wait_for(campaign_id, "completed")
    [_, adapter] = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert len(adapter["contributions"]) == 2


def test_a_coordinator_that_starts_with_its_clock_set_back_goes_on_at_once(
    data_dir: Path, database_url: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = quick_settings(data_dir, database_url)
    with running_coordinator(settings) as running:
        running.clock.move(5 * HOURS)
        operator = Operator(running.url, running.key)
        ada, bob = (ScriptedAgent(running.url, operator.token(), name) for name in ("ada", "bob"))
        campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2, deadline={"round_s": 60})
        ada.train(adapter_bytes(tmp_path, 1.0))
        held = bob.lease("train")
    with running_coordinator(settings) as running:  # five hours earlier by its machine's clock
        assert "behind the newest event in the database" in caplog.text
        operator = Operator(running.url, running.key)
        for agent in (ada, bob):
            agent.http.base_url = running.url
        assert bob.renew(held).status_code == 200
        bob.train(adapter_bytes(tmp_path, 3.0), lease=held)
        ada.train(adapter_bytes(tmp_path, 2.0))
        running.clock.move(61)  # the second round's deadline is a minute away, not five hours and a minute
        operator.wait_until(lambda: operator.events(campaign_id), lambda found: "round-extended" in found)
        bob.train(adapter_bytes(tmp_path, 2.0))
        operator.wait_for(campaign_id, "completed")
        events = operator.items(f"/v1/campaigns/{campaign_id}/events")
        times = [datetime.fromisoformat(event["at"]) for event in events]
        assert all(later - earlier > timedelta(seconds=-1) for earlier, later in pairwise(times))
    for agent in (ada, bob):
        agent.http.close()
