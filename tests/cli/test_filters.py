"""Lists of the command line with filters, and the events of one campaign or of all."""

import json
from typing import Any

import pytest

from shared.states import AgentState
from tests.cli.conftest import Campaign, Run
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body


def lines(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def names(out: str) -> list[str]:
    return [each["name"] for each in json.loads(out)]


def test_lists_show_what_their_filters_match(fedloom: Run, operator: Operator, agents: list[ScriptedAgent]) -> None:
    for name in ("running", "dropped"):
        operator.post("/v1/campaigns", campaign_body(name=name))
    operator.campaign("dropped", "cancel")
    operator.post(f"/v1/agents/{agents[0].name}/revoke")
    others = sorted(agent.name for agent in agents[1:])
    operator.token(labels={"site": "north"})
    assert names(fedloom("campaign", "list", "--state", "cancelled", "--json").out) == ["dropped"]
    assert names(fedloom("campaign", "list", "--name", "running", "--kind", "sft", "--json").out) == ["running"]
    assert names(fedloom("agent", "list", "--state", AgentState.REVOKED, "--json").out) == [agents[0].name]
    assert sorted(names(fedloom("agent", "list", "--state", "active", "--json").out)) == others
    assert len(json.loads(fedloom("token", "list", "--state", "open", "--label", "site=north", "--json").out)) == 1
    for command in (
        ("campaign", "list", "--since", "2100-01-01T00:00:00Z"),
        ("agent", "list", "--label", "site=nowhere"),
        ("token", "list", "--state", "expired"),
    ):
        assert fedloom(*command).out == f"no such {command[0]}s\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("campaign", "list", "--since", "yesterday"), "not a valid time"),
        (("token", "list", "--until", "2026-01-01"), "the time has no zone"),
        (("agent", "list", "--label", "north"), "is not a label; write NAME=VALUE"),
        (("agent", "list", "--state", "gone"), "'active', 'revoked'"),
        (("campaign", "events", "--type", "round-ended"), "'round-closed'"),
        (("campaign", "events", "--follow", "--until", "2100-01-01T00:00:00Z"), "a stream goes on with new events"),
    ],
)
def test_filters_that_mean_nothing_are_refused_in_words(fedloom: Run, command: tuple[str, ...], says: str) -> None:
    ran = fedloom(*command)
    assert ran.code == 2
    assert says in " ".join(ran.err.replace("│", " ").split())


def test_the_events_of_one_campaign_and_of_all_are_printed(run: Run, finished: Campaign) -> None:
    of_one = lines(run("campaign", "events", "small", "--json").out)
    assert [event["number"] for event in of_one] == list(range(1, len(of_one) + 1))
    assert lines(run("campaign", "events", "small", "--follow", "--json").out) == of_one
    of_all = lines(run("campaign", "events", "--json").out)
    assert [event["position"] for event in of_all] == list(range(1, len(of_all) + 1))
    mine = [event for event in of_all if event["campaign_id"] == finished.id]
    assert [event["number"] for event in mine] == [event["number"] for event in of_one]
    closed = run("campaign", "events", "small", "--type", "round-closed").out.splitlines()
    assert closed
    assert all("round-closed" in line and "adapter_sha256=" in line for line in closed)
    assert "small: " in run("campaign", "events", "--type", "campaign-created").out
    assert run("campaign", "events", "nothing").code == 5
