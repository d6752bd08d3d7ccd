"""What owners say of campaigns: not yet, not now, no, and yes. None of it is a failure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.owners_word import Word
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body

Enroll = Callable[..., ScriptedAgent]

WAITS, PAUSED = ({"kind": word.failure.value, "message": word.text} for word in (Word.WAITS, Word.PAUSED))


def set_part(agent: ScriptedAgent, campaign_id: str, part: str) -> int:
    return agent.http.put(f"/v1/agents/me/campaigns/{campaign_id}", json={"part": part}).status_code


def states(operator: Operator, campaign_id: str) -> dict[str, str]:
    campaign = operator.get(f"/v1/campaigns/{campaign_id}")
    return {each["agent_name"]: each["state"] for each in campaign["participants"]}


def wait_for_reason(operator: Operator, campaign_id: str, beginning: str) -> None:
    read = lambda: operator.get(f"/v1/campaigns/{campaign_id}")["reason"] or ""  # noqa: E731
    operator.wait_until(read, lambda reason: reason.startswith(beginning))


def say(agent: ScriptedAgent, kind: str, word: dict[str, str]) -> None:
    lease = agent.lease(kind)
    for _ in range(2):  # the second time as if the reply was lost
        assert agent.failure(lease, **word).status_code == 200


@pytest.mark.usefixtures("either_coordinator")
def test_a_campaign_waits_for_an_owner_and_goes_on_once_it_is_accepted(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 2}))["id"]
    say(ada, "prepare", WAITS)
    bob.prepare()
    wait_for_reason(operator, campaign_id, "waiting for the owner of ada to accept the campaign")
    assert states(operator, campaign_id) == {"ada": "waiting", "bob": "prepared"}
    assert operator.items(f"/v1/campaigns/{campaign_id}/tasks", state="failed") == []
    assert ada.ask(0).status_code == 204
    assert [set_part(ada, campaign_id, "takes-part") for _ in range(2)] == [204, 204]
    ada.prepare()
    ada.init(adapter_bytes(tmp_path))
    for agent in (ada, bob):
        agent.train(adapter_bytes(tmp_path, 1.0))
    operator.wait_for(campaign_id, "completed")
    events = operator.events(campaign_id)
    assert [events.count(each) for each in ("agent-waits", "agent-back", "task-failed")] == [1, 1, 0]


def test_a_campaign_starts_without_owners_who_take_their_time_and_they_join_later(
    coordinator: Any, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    body = campaign_body(selection={"minimum": 1}, rounds=2, deadline={"prepare_s": 60})
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    say(bob, "prepare", WAITS)
    ada.prepare()
    wait_for_reason(operator, campaign_id, "waiting for the owner of bob")
    coordinator.clock.move(61)
    coordinator.services.notifiers.wake_engine()
    ada.init(adapter_bytes(tmp_path))
    lease = ada.lease("train")
    assert set_part(bob, campaign_id, "takes-part") == 204
    bob.prepare()
    ada.train(adapter_bytes(tmp_path, 1.0), lease)
    for agent in (ada, bob):
        agent.train(adapter_bytes(tmp_path, 1.0))
    operator.wait_for(campaign_id, "completed")
    assert "agent-joins-later" in operator.events(campaign_id)


@pytest.mark.usefixtures("coordinator")
def test_an_agent_whose_owner_pauses_it_is_not_drawn_until_it_is_back(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = ada, bob = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=3, selection={"minimum": 1})
    say(bob, "train", PAUSED)
    ada.train(adapter_bytes(tmp_path, 1.0))
    ada.train(adapter_bytes(tmp_path, 1.0))
    closed = lambda: operator.get(f"/v1/campaigns/{campaign_id}")["rounds_closed"]  # noqa: E731
    operator.wait_until(closed, lambda number: number == 2)
    assert states(operator, campaign_id) == {"ada": "prepared", "bob": "paused"}
    assert bob.ask(0).status_code == 204
    assert set_part(bob, campaign_id, "takes-part") == 204
    rounds = operator.items(f"/v1/campaigns/{campaign_id}/rounds")
    assert [each["contributors"] for each in rounds[:2]] == [[0], [0]]
    assert states(operator, campaign_id)["bob"] == "prepared"


@pytest.mark.usefixtures("coordinator")
def test_an_owner_who_leaves_ends_its_task_and_others_go_on(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = ada, bob = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=2, selection={"minimum": 1})
    lease = bob.lease("train")
    assert set_part(bob, campaign_id, "left") == 204
    refused = bob.result(lease, bob.train_result("a" * 64))
    assert (refused.status_code, problem(refused).kind) == (410, "lease-lost")
    for _ in range(2):
        ada.train(adapter_bytes(tmp_path, 1.0))
    assert operator.wait_for(campaign_id, "completed")["rounds_closed"] == 2
    assert states(operator, campaign_id) == {"ada": "prepared", "bob": "left"}
    assert set_part(bob, campaign_id, "takes-part") == 409, "the campaign is over"


@pytest.mark.usefixtures("coordinator")
def test_an_agent_speaks_for_its_own_part_alone(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada", city="Bern")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"labels": {"city": "Ulm"}}))["id"]
    assert set_part(ada, campaign_id, "left") == 404
    assert set_part(ada, "no-such-campaign", "left") == 404
    path = f"/v1/agents/me/campaigns/{campaign_id}"
    assert operator.http.put(path, json={"part": "left"}).status_code == 403
    assert ada.http.put(path, json={"part": "everything"}).status_code == 422
