"""What owners gain: stored once an adapter and owner, checked, shown to operators alone, gone with a rollback."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from fedloom import Client
from fedloom.cli.campaign.page import load
from fedloom.exporting.export import export
from fedloom.exporting.export_options import Format, What
from shared.wire.problems import ProblemType
from tests.coordinator.agents.test_own_adapters import one_round
from tests.support.driven import DrivenCampaign
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]
GAIN = {"base": 2.35, "alone": 1.99, "adapter": 1.23}


@pytest.fixture
def pair(enroll: Enroll) -> list[ScriptedAgent]:
    return [enroll("ada", site="north"), enroll("bob", site="north")]


def digest_of(campaign: DrivenCampaign, number: int) -> str:
    return str(campaign.operator.get(f"{campaign.path}/adapters/{number}")["blob"]["sha256"])


def tell(agent: ScriptedAgent, campaign: DrivenCampaign, sha256: str, gain: Any) -> httpx.Response:
    content = json.dumps(gain).encode()
    path = f"/v1/agents/me/campaigns/{campaign.id}/gains/{sha256}"
    return agent.http.put(path, content=content, headers={"Content-Type": "application/json"})


def told(campaign: DrivenCampaign, **filters: Any) -> list[tuple[Any, ...]]:
    rows = campaign.operator.items(f"{campaign.path}/gains", **filters)
    return [(row["agent_name"], row["round"], row["base"], row["alone"], row["adapter"]) for row in rows]


def test_operators_see_the_latest_numbers_of_each_owner(
    coordinator: RunningCoordinator, operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair, rounds=2)
    start, first = digest_of(campaign, 0), digest_of(campaign, 1)
    for _ in range(2):
        assert tell(pair[0], campaign, first, GAIN).status_code == 204
    assert tell(pair[1], campaign, first, GAIN | {"adapter": 2.5}).status_code == 204
    assert tell(pair[1], campaign, start, GAIN).status_code == 204
    assert told(campaign) == [
        ("ada", 1, 2.35, 1.99, 1.23),
        ("bob", 1, 2.35, 1.99, 2.5),
        ("bob", 0, 2.35, 1.99, 1.23),
    ]
    assert tell(pair[1], campaign, first, GAIN | {"adapter": 2.0}).status_code == 204
    assert told(campaign, round=1)[1] == ("bob", 1, 2.35, 1.99, 2.0)
    with Client(coordinator.url, operator.key) as client:
        assert [each.adapter for each in client.gains(campaign.id, round=1)] == [1.23, 2.0]
        file = StringIO(newline="")
        export(client, client.campaign(campaign.id), What.GAINS, Format.CSV, file)
        lines = file.getvalue().splitlines()
        assert lines[0] == "round,agent_name,client_number,base,alone,adapter,at"
        assert lines[1].startswith("1,ada,0,2.35,1.99,1.23,")
        page = load(client, campaign.id)
    assert len(page.as_json()["gains"]) == 3


def test_only_clients_tell_only_of_adapters_there_are_and_only_numbers(
    operator: Operator, pair: list[ScriptedAgent], enroll: Enroll, tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair)
    sha256, stranger = digest_of(campaign, 1), enroll("eve", site="south")
    refused = tell(stranger, campaign, sha256, GAIN)
    assert (refused.status_code, problem(refused).kind) == (404, ProblemType.NOT_FOUND)
    assert tell(pair[0], campaign, "0" * 64, GAIN).status_code == 404
    assert tell(pair[0], campaign, "no-digest", GAIN).status_code == 422
    for bad in (
        {"base": 1.0, "alone": 1.0},
        {**GAIN, "rows": 7},
        {**GAIN, "base": "many"},
        {**GAIN, "base": True},
        {**GAIN, "base": None},
        {**GAIN, "base": 1e10},
        {**GAIN, "base": float("nan")},
        {**GAIN, "alone": float("inf")},
    ):
        assert tell(pair[0], campaign, sha256, bad).status_code in (400, 422), bad
    assert told(campaign) == []
    assert operator.http.put(f"/v1/agents/me/campaigns/{campaign.id}/gains/{sha256}", json=GAIN).status_code in (
        401,
        403,
    )
    assert pair[0].http.get(f"{campaign.path}/gains").status_code in (401, 403)


def test_numbers_of_adapters_that_are_rolled_back_are_gone(
    operator: Operator, pair: list[ScriptedAgent], tmp_path: Path
) -> None:
    campaign = one_round(operator, tmp_path, pair, retention={"adapters": 5, "server_state": 5})
    campaign.wait_for("completed")
    start, first = digest_of(campaign, 0), digest_of(campaign, 1)
    for sha256 in (start, first):
        assert tell(pair[0], campaign, sha256, GAIN).status_code == 204, "after the end too"
    operator.post(f"{campaign.path}/rollback", {"round": 0})
    assert told(campaign) == [("ada", 0, 2.35, 1.99, 1.23)]
    assert tell(pair[0], campaign, first, GAIN).status_code == 404, "nothing of it comes late"
