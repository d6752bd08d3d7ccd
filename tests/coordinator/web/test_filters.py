"""Filters of listings, on both databases, and campaigns and adapters by what they are called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from coordinator.database.tables import CampaignRow
from tests.coordinator.web.listings import filled
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]


def names(items: list[Any]) -> list[str]:
    return [item["name"] for item in items]


def test_campaigns_agents_and_tokens_are_found_by_what_people_look_for(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    for name, labels in (("ada", {"site": "north"}), ("bob", {"site": "south", "ward": "7"}), ("cyd", {})):
        enroll(name, **labels)
    first, second = (operator.post("/v1/campaigns", campaign_body(name=name)) for name in ("early", "dropped"))
    operator.campaign(second["id"], "cancel")
    operator.token(labels={"site": "north"}, expires_in_s=10)
    either_coordinator.clock.move(3600)
    begun = either_coordinator.clock.now().isoformat()
    operator.post("/v1/campaigns", campaign_body(name="late", kind="dpo"))
    operator.token()
    operator.post("/v1/agents/cyd/revoke")
    for path, params, found in (
        ("campaigns", {"state": "cancelled"}, ["dropped"]),
        ("campaigns", {"state": "preparing"}, ["late", "early"]),
        ("campaigns", {"kind": "dpo"}, ["late"]),
        ("campaigns", {"kind": "sft", "state": "preparing"}, ["early"]),
        ("campaigns", {"name": "early"}, ["early"]),
        ("campaigns", {"since": begun}, ["late"]),
        ("campaigns", {"until": begun}, ["dropped", "early"]),
        ("campaigns", {"since": first["created_at"]}, ["late", "dropped", "early"]),
        ("agents", {"state": "active"}, ["ada", "bob"]),
        ("agents", {"state": "revoked"}, ["cyd"]),
        ("agents", {"label": "site=north"}, ["ada"]),
        ("agents", {"label": ["site=south", "ward=7"]}, ["bob"]),
        ("agents", {"label": ["site=south", "ward=8"]}, []),
        ("agents", {"name": "bob"}, ["bob"]),
        ("agents", {"since": begun}, []),
    ):
        assert names(operator.items(f"/v1/{path}", **params)) == found, params
    tokens = {state: operator.items("/v1/tokens", state=state) for state in ("open", "used", "expired")}
    assert [len(found) for found in tokens.values()] == [1, 3, 1]
    assert [found["labels"] for found in operator.items("/v1/tokens", label="site=north", state="expired")] == [
        {"site": "north"}
    ]
    assert operator.items("/v1/tokens", since=begun) == tokens["open"]


@pytest.mark.usefixtures("either_coordinator")
def test_the_parts_of_a_campaign_are_found_by_their_filters(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    filled(operator, enroll, tmp_path)
    url = "/v1/campaigns/small"
    tasks = operator.items(f"{url}/tasks")
    for params, is_wanted in (
        ({"kind": "train"}, lambda task: task["kind"] == "train"),
        ({"kind": "train", "round": 2}, lambda task: (task["kind"], task["round"]) == ("train", 2)),
        ({"agent": "ada"}, lambda task: task["agent_name"] == "ada"),
        ({"agent": tasks[0]["agent_id"], "state": "done"}, lambda task: task["agent_id"] == tasks[0]["agent_id"]),
        ({"state": "failed"}, lambda _: False),
        ({"agent": "nobody"}, lambda _: False),
    ):
        assert operator.items(f"{url}/tasks", **params) == [task for task in tasks if is_wanted(task)], params
    metrics = operator.items(f"{url}/metrics")
    assert operator.items(f"{url}/metrics", client=1) == [each for each in metrics if each["client_number"] == 1]
    assert [each["number"] for each in operator.items(f"{url}/rounds", state="closed")] == [1, 2]
    assert operator.items(f"{url}/rounds", state="open") == []
    assert len(operator.items(f"{url}/adapters", stored=True)) == 3
    assert operator.items(f"{url}/adapters", stored=False) == []
    closed = operator.items(f"{url}/events", type="round-closed")
    assert [event["data"]["round"] for event in closed] == [1, 2]
    both = operator.items(f"{url}/events", type=["round-closed", "round-opened"], limit=3)
    assert [event["type"] for event in both] == ["round-opened", "round-closed", "round-opened"]
    assert operator.items(f"{url}/events", until=closed[0]["at"])[-1]["number"] < closed[0]["number"]
    for path in ("tasks", "metrics", "adapters", "events"):
        everything = operator.items(f"{url}/{path}")
        span = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00+01:00"}
        assert operator.items(f"{url}/{path}", **span) == everything
        assert operator.items(f"{url}/{path}", since="2100-01-01T00:00:00Z") == []


def test_a_campaign_is_found_by_its_id_or_the_newest_of_its_name(
    either_coordinator: RunningCoordinator, operator: Operator
) -> None:
    old = operator.post("/v1/campaigns", campaign_body(name="notes"))["id"]
    either_coordinator.clock.move(1)
    new = operator.post("/v1/campaigns", campaign_body(name="notes"))["id"]
    posing = operator.post("/v1/campaigns", campaign_body(name=old))["id"]
    assert [operator.get(f"/v1/campaigns/{each}")["id"] for each in ("notes", old, new)] == [new, old, new]
    assert operator.post("/v1/campaigns/notes/pause")["id"] == new
    assert operator.get(f"/v1/campaigns/{posing}")["name"] == old
    assert operator.get("/v1/campaigns/notes/events") == operator.get(f"/v1/campaigns/{new}/events")
    missing = operator.http.get("/v1/campaigns/nothing/rounds")
    assert (missing.status_code, problem(missing).detail) == (404, "there is no campaign nothing")


def test_only_operators_learn_which_campaigns_exist(operator: Operator, enroll: Enroll) -> None:
    operator.post("/v1/campaigns", campaign_body(name="notes"))
    ada = enroll("ada")
    for name in ("notes", "nothing"):
        assert ada.http.get(f"/v1/campaigns/{name}").status_code == 403
        assert operator.http.get(f"/v1/campaigns/{name}", headers={"Authorization": "Bearer x"}).status_code == 401


def test_adapters_are_found_by_number_and_by_what_they_are(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    async def evaluate() -> None:
        async with coordinator.services.database.write("test") as session:
            await session.execute(update(CampaignRow).where(CampaignRow.name == "small").values(best_adapter=0))

    def refusal(which: str) -> str:
        reply = operator.http.get(f"/v1/campaigns/small/adapters/{which}")
        assert reply.status_code == 404
        return problem(reply).detail

    agents = [enroll("ada"), enroll("bob")]
    operator.post("/v1/campaigns", campaign_body(name="empty", selection={"labels": {"site": "nowhere"}}))
    begin_campaign(operator, tmp_path, agents, rounds=1)
    assert refusal("best") == "campaign small has no best adapter: none was evaluated"
    assert refusal("final") == "campaign small has no final adapter: it is running and has not ended"
    assert refusal("7") == "campaign small has no adapter 7: its adapters are 0 to 0"
    assert refusal("9999999999") == "campaign small has no adapter 9999999999: its adapters are 0 to 0"
    for agent in agents:
        agent.train(adapter_bytes(tmp_path, 1.0))
    operator.wait_for("small", "completed")
    numbers = {which: operator.get(f"/v1/campaigns/small/adapters/{which}")["number"] for which in ("final", "latest")}
    assert numbers == {"final": 1, "latest": 1}
    coordinator.run(evaluate())
    assert operator.get("/v1/campaigns/small/adapters/best") == operator.get("/v1/campaigns/small/adapters/0")
    reply = operator.http.get("/v1/campaigns/empty/adapters/latest")
    assert problem(reply).detail == "campaign empty has no latest adapter: it is preparing, and none was made yet"
    for which in ("newest", "%D9%A1", "%EF%BC%91", "+1", "1_0"):  # also the digits of other scripts
        assert operator.http.get(f"/v1/campaigns/small/adapters/{which}").status_code == 422
