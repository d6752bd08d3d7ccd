"""Which agents are away, and that no restart and no replica calls one away that is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import presence
from coordinator.settings import Settings
from tests.support.driven import DrivenCampaign
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

SILENCE_S = 3 * 50.0
"""Three times the longest wait for work, the default."""


def away(operator: Operator, name: str) -> Any:
    return operator.get(f"/v1/agents/{name}")["away_since"]


def test_an_agent_is_away_once_it_misses_three_of_its_usual_requests(
    coordinator: RunningCoordinator, operator: Operator, enroll: Callable[..., ScriptedAgent]
) -> None:
    ada = enroll("ada")
    ada.ask(wait_s=0)
    seen = operator.get("/v1/agents/ada")["last_seen_at"]
    coordinator.clock.move(SILENCE_S - 5)
    assert away(operator, "ada") is None
    coordinator.clock.move(6)
    assert [each["away_since"] for each in operator.items("/v1/agents")] == [seen]
    ada.ask(wait_s=0)
    assert away(operator, "ada") is None


def test_participants_are_away_too_and_a_revoked_agent_is_not(
    either_coordinator: RunningCoordinator, operator: Operator, tmp_path: Path, enroll: Callable[..., ScriptedAgent]
) -> None:
    coordinator = either_coordinator
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob])
    assert campaign.part("ada")["away_since"] is None
    coordinator.clock.move(SILENCE_S + 1)
    ada.ask(wait_s=0)
    seen = operator.get("/v1/agents/bob")["last_seen_at"]
    assert (campaign.part("ada")["away_since"], campaign.part("bob")["away_since"]) == (None, seen)
    assert [each["away_since"] for each in operator.items(f"{campaign.path}/clients")] == [None, seen]
    operator.post("/v1/agents/bob/revoke")
    assert (campaign.part("bob")["away_since"], away(operator, "bob")) == (None, None)
    assert (campaign.part("ada")["revoked"], campaign.part("bob")["revoked"]) == (False, True)


@pytest.mark.parametrize(("lease", "silence_s"), [({"max_wait_s": 0}, 90.0), ({"max_wait_s": 10, "ttl_s": 600}, 600.0)])
def test_the_silence_follows_the_settings_of_leases(data_dir: Path, lease: dict[str, float], silence_s: float) -> None:
    with running_coordinator(quick_settings(data_dir, None, **lease)) as running:
        operator = Operator(running.url, running.key)
        ScriptedAgent(running.url, operator.token(), "ada").ask(wait_s=0)
        running.clock.move(silence_s - 5)
        assert away(operator, "ada") is None
        running.clock.move(6)
        assert away(operator, "ada") is not None


def test_after_a_restart_no_agent_is_away_before_it_had_time_to_call(
    data_dir: Path, settings_of: Callable[[Path, str | None], Settings]
) -> None:
    settings = settings_of(data_dir, None)
    with running_coordinator(settings) as first:
        ScriptedAgent(first.url, Operator(first.url, first.key).token(), "ada")
    with running_coordinator(settings) as again:
        again.clock.move(86400)
        again.services.up_since = again.clock.now()  # as if it had been down for a day
        operator = Operator(again.url, again.key)
        assert away(operator, "ada") is None
        again.clock.move(SILENCE_S + 1)
        assert away(operator, "ada") == operator.get("/v1/agents/ada")["last_seen_at"]


def test_a_replica_without_an_engine_tells_the_others_whom_it_has_seen(
    data_dir: Path, settings_of: Callable[[Path, str | None], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(data_dir, None)
    with running_coordinator(settings) as first, running_coordinator(settings, with_engine=False) as second:
        operator = Operator(first.url, first.key)
        ada = ScriptedAgent(first.url, operator.token(), "ada")
        for running in (first, second):
            running.clock.move(SILENCE_S + 1)
        assert away(operator, "ada") is not None
        ada.http.base_url = second.url  # type: ignore[assignment]
        ada.ask(wait_s=0)
        operator.wait_until(lambda: away(operator, "ada"), lambda since: since is None, timeout_s=20)


def test_times_are_written_once(
    coordinator: RunningCoordinator, operator: Operator, enroll: Callable[..., ScriptedAgent]
) -> None:
    ada = enroll("ada")
    ada.ask(wait_s=0)
    coordinator.run(presence.write_last_seen(coordinator.services))
    assert coordinator.services.last_seen == {}
