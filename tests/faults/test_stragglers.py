"""Sites that are killed for good and one that joins later: the campaign continues without the dead, with the new."""

from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.operator import Operator
from tests.support.processes import QuickAgent, QuickCoordinator, ended, wait_until
from tests.support.scripted import campaign_body

pytestmark = [pytest.mark.fault, pytest.mark.deep]

DEADLINE_S = 8.0
ROUNDS = 8
SLACK_S = 5.0
"""Slack in seconds for a machine that is busy at a deadline."""
DEAD = {"cyd", "dan", "eve"}
CAMPAIGN = campaign_body(
    rounds=ROUNDS,
    training={"steps": 2, "batch_size": 2, "seed": 7},
    selection={"minimum": 2},
    deadline={"round_s": DEADLINE_S},
    stragglers={"set_aside_after": 2, "set_aside_rounds": ROUNDS},
)


def events(operator: Operator, campaign_id: str, kind: str) -> list[dict[str, Any]]:
    found = operator.items(f"/v1/campaigns/{campaign_id}/events")
    return [event["data"] for event in found if event["type"] == kind]


def took(round_row: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(round_row["closed_at"]) - datetime.fromisoformat(round_row["opened_at"])


def test_three_of_five_sites_are_killed_and_the_campaign_is_over_on_time(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator", FEDLOOM_LEASE__TTL_S="3")
    operator = coordinator.operator
    with ExitStack() as stack:
        stack.enter_context(ended(coordinator))
        agents = {name: QuickAgent.recorded_one(coordinator, tmp_path, name) for name in ("ada", "bob", *sorted(DEAD))}
        stack.enter_context(ended(*agents.values()))
        for agent in agents.values():
            agent.start()
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        path = f"/v1/campaigns/{campaign_id}"
        wait_until(lambda: operator.get(path)["rounds_closed"] >= 1, "the first round")
        for name in DEAD:
            agents[name].process.kill()
        fay = QuickAgent.recorded_one(coordinator, tmp_path, "fay")
        stack.enter_context(ended(fay))
        fay.start()
        campaign = operator.wait_for(campaign_id, "completed")
        rounds = operator.items(f"{path}/rounds")
        adapters = operator.items(f"{path}/adapters")
        set_aside = events(operator, campaign_id, "agent-set-aside")

    assert len(rounds) == ROUNDS
    # dead sites are drawn in two rounds at most: those in which they were killed, or the two after that
    assert {event["agent"] for event in set_aside} == DEAD
    numbers = {part["client_number"] for part in campaign["participants"] if part["agent_name"] in DEAD}
    for round_row in rounds:
        assert took(round_row) < timedelta(seconds=DEADLINE_S + SLACK_S), round_row
    last_in_vain = max(round_row["number"] for round_row in rounds if numbers & set(round_row["sampled"]))
    assert last_in_vain <= 4
    assert all(took(round_row) < timedelta(seconds=DEADLINE_S) for round_row in rounds[last_in_vain:])
    assert sum(took(round_row) >= timedelta(seconds=DEADLINE_S) for round_row in rounds) <= 3

    [joined] = [part["joined_round"] for part in campaign["participants"] if part["agent_name"] == "fay"]
    assert 1 < joined <= ROUNDS
    contributors = [{share["agent_name"] for share in adapter["contributions"]} for adapter in adapters]
    assert all(len(names) >= 2 for names in contributors[1:])
    assert not any("fay" in names for names in contributors[:joined])
    assert any("fay" in names for names in contributors[joined:])
