"""Data that the engine cannot work with: its campaign is paused with a reason, once; others are not touched."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from coordinator.clock import later
from coordinator.database.tables import CampaignRow, EventRow
from coordinator.events.log import record
from shared.events import EventType
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]


def make_due(running: RunningCoordinator, campaign_id: str, **values: Any) -> None:
    """Write columns of a campaign past every check, and make it due."""

    async def work() -> None:
        async with running.services.database.write("test") as session:
            changed = update(CampaignRow).where(CampaignRow.id == campaign_id)
            await session.execute(changed.values(due_at=running.clock.now(), **values))
        running.services.notifiers.wake_engine()

    running.run(work())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("spec_json", "reason"),
    [
        ({"rounds": "many"}, "ValidationError at "),
        ({}, "ValidationError at "),
    ],
)
def test_a_campaign_whose_data_cannot_be_used_is_paused_once_with_the_reason(
    either_coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    spec_json: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ada = enroll("ada")
    selection = {"minimum": 1}
    broken = operator.post("/v1/campaigns", campaign_body(name="broken", selection=selection))["id"]
    ada.prepare()
    ada.init(adapter_bytes(tmp_path))
    operator.wait_for(broken, "running")
    make_due(either_coordinator, broken, spec_json=spec_json)

    def stored() -> tuple[str, str | None]:
        query = select(CampaignRow.state, CampaignRow.reason).where(CampaignRow.id == broken)
        [row] = either_coordinator.run(either_coordinator.services.database.fetch(query))
        return row.state.value, row.reason

    state, told = operator.wait_until(stored, lambda found: found[0] == "paused", 30)
    assert told.startswith(f"the engine cannot go on with this campaign: {reason}")
    assert "\n" not in told
    make_due(either_coordinator, broken)  # as any event does; a paused campaign is not ticked
    [line] = errors(caplog)
    assert line == f"campaign {broken} is paused: {told}"
    assert not [each for each in caplog.records if each.exc_info]
    assert state == "paused"


def test_an_event_that_quotes_another_party_is_one_clean_line_in_the_log_and_in_the_database(
    either_coordinator: RunningCoordinator, operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    nasty = "x\x00y\x1b]0;T\x07\r\nFAKE LINE \ud800"

    async def work() -> dict[str, Any]:
        async with either_coordinator.services.database.write("test") as session:
            campaign = await session.get_one(CampaignRow, campaign_id)
            record(session, campaign, datetime.now(UTC), EventType.AGENT_REVOKED, agent=nasty)
            number = campaign.last_event
        query = select(EventRow.data).where(EventRow.campaign_id == campaign_id, EventRow.number == number)
        [(data,)] = await either_coordinator.services.database.fetch(query)
        return dict(data)

    assert either_coordinator.run(work()) == {"agent": r"x\x00y\x1b]0;T\x07 FAKE LINE \ud800"}
    assert nasty not in caplog.text
    assert r"x\x00y\x1b]0;T\x07 FAKE LINE" in caplog.text


@pytest.mark.parametrize("seconds", [1e9, 1e15, 1e308, float("inf")])
def test_no_wait_is_too_long_for_a_date(seconds: float) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert now < later(now, seconds) <= datetime(9999, 1, 1, tzinfo=UTC)
