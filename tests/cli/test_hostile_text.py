"""What other parties wrote reaches an operator as text: no control characters, no markup, no made-up lines."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from shared.text.plain_text import visible
from tests.cli.conftest import Campaign, Run
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator

EVIL = (
    "\x1b]0;T\x07\x1b[2J\x1b]52;c;eA==\x07\x9b31m [link=http://x]y[/link] [/] :smile: \u202e\u2028\r\x00"
    "\nFAKE LINE all agents are healthy " + "wide " * 30
)
TABLES = [
    ("campaign", "show", "small"),
    ("campaign", "list"),
    ("agent", "list"),
    ("agent", "show", "ada"),
    ("token", "list"),
    ("adapter", "list", "small"),
]
COMMANDS = [*TABLES, ("campaign", "watch", "small")]


def write(coordinator: RunningCoordinator, statement: str, **values: Any) -> None:
    async def execute() -> None:
        async with coordinator.services.database.write("test") as session:
            await session.execute(text(statement), values)

    coordinator.run(execute())


@pytest.fixture
def spoilt(campaign: Campaign, coordinator: RunningCoordinator, operator: Operator) -> None:
    """A paused campaign of ada and bob, with hostile texts wherever the database holds one of another party."""
    operator.wait_until(lambda: operator.items(f"/v1/campaigns/{campaign.id}/tasks"), lambda tasks: len(tasks) == 2, 10)
    operator.token(labels={"site": "south"})
    operator.post(f"/v1/campaigns/{campaign.id}/pause")
    write(coordinator, "UPDATE campaigns SET reason = :evil", evil=EVIL)
    write(coordinator, "UPDATE tokens SET note = :evil WHERE used_at IS NOT NULL", evil=EVIL)
    write(coordinator, "UPDATE agents SET version = :evil WHERE name = 'ada'", evil=EVIL)
    write(coordinator, "UPDATE agents SET labels = :evil WHERE name = 'ada'", evil=json.dumps({"site": EVIL}))
    states = "UPDATE participants SET state = 'mismatched', reason = :evil WHERE agent_name = 'ada'"
    write(coordinator, states, evil=EVIL)
    write(coordinator, "UPDATE events SET data = :evil WHERE number = 2", evil=json.dumps({"reason": EVIL}))


def strings(value: Any) -> list[str]:
    """All strings of a JSON document."""
    match value:
        case str():
            return [value]
        case list():
            return [each for item in value for each in strings(item)]
        case dict():
            return strings(list(value.values()))
        case _:
            return []


def test_nothing_raw_reaches_the_terminal(spoilt: None, fedloom: Run) -> None:
    shown = {}
    for command in COMMANDS:
        ran = fedloom(*command)
        assert ran.code == 0 or command[1] == "watch", ran.err
        assert visible(ran.out + ran.err) == ran.out + ran.err, command
        assert not [line for line in ran.out.splitlines() if line.startswith("FAKE")], command  # a cell may wrap there
        if command[1] != "watch":
            assert max(map(len, ran.out.splitlines())) <= 80, command
        shown[command[:2]] = ran.out
    for command in (("campaign", "show"), ("campaign", "watch"), ("agent", "show"), ("token", "list")):
        assert "\\x1b]0;T\\x07" in shown[command].replace("\n", "").replace(" ", ""), command
    assert "[link=http://x]y[/link]" in shown["campaign", "watch"]
    for command in (("campaign", "show"), ("agent", "list")):
        assert [line for line in shown[command].splitlines() if "bob" in line], command
    assert "small paused" in " ".join(shown["campaign", "list"].split())


def test_json_holds_the_texts_as_they_are_and_nothing_raw(spoilt: None, fedloom: Run) -> None:
    for command in COMMANDS:
        out = fedloom(*command, "--json").out
        assert visible(out) == out, command
        documents = [json.loads(line) for line in out.splitlines()] if command[1] == "watch" else json.loads(out)
        assert EVIL in strings(documents) or command[0] == "adapter", command
