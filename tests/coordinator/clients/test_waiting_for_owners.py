"""What the operator reads while a campaign that has not begun waits for owners, and what it goes on with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.owners_word import Word
from tests.coordinator.clients.test_owners_word import say, set_part, states, wait_for_reason
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]

TOLD = {word: {"kind": word.failure.value, "message": word.text} for word in Word}


def answer_waiting(agent: ScriptedAgent) -> None:
    say(agent, "prepare", TOLD[Word.WAITS])


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize("asked_first", [False, True])
def test_an_owner_who_refuses_is_named_and_no_agent_is_missed(
    operator: Operator, enroll: Enroll, asked_first: bool
) -> None:
    agents = [enroll(name) for name in ("ada", "bob", "cyd")]
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 3}))["id"]
    for agent in agents[:2]:
        agent.prepare()
    if asked_first:
        answer_waiting(agents[2])
        assert set_part(agents[2], campaign_id, "left") == 204
    else:
        say(agents[2], "prepare", TOLD[Word.REFUSED])
    wait_for_reason(operator, campaign_id, "2 of 3 agents can take part; cyd: its owner refused the campaign")
    assert states(operator, campaign_id)["cyd"] == "left"
    assert set_part(agents[2], campaign_id, "takes-part") == 204
    wait_for_reason(operator, campaign_id, "waiting for cyd to prepare")


@pytest.mark.usefixtures("coordinator")
def test_of_several_who_are_gone_each_reason_is_told_once_and_labels_are_named(
    operator: Operator, enroll: Enroll
) -> None:
    ada, bob, cyd = (enroll(name, site="east") for name in ("ada", "bob", "cyd"))
    enroll("elsewhere", site="west")
    body = campaign_body(selection={"minimum": 2, "labels": {"site": "east"}})
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    ada.prepare()
    assert set_part(ada, campaign_id, "left") == 204, "it took part before"
    for agent in (bob, cyd):
        say(agent, "prepare", TOLD[Word.REFUSED])
    told = "ada: its owner has left the campaign; bob, cyd: its owner refused the campaign"
    wait_for_reason(operator, campaign_id, f"0 of 2 agents with site=east can take part; {told}")


@pytest.mark.usefixtures("either_coordinator")
@pytest.mark.parametrize("is_prepared", [False, True])
def test_a_campaign_waits_for_an_owner_who_paused_and_goes_on_by_itself(
    operator: Operator, enroll: Enroll, tmp_path: Path, is_prepared: bool
) -> None:
    ada, bob, cyd = (enroll(name) for name in ("ada", "bob", "cyd"))
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 2}))["id"]
    wait_for_reason(operator, campaign_id, "waiting for ada, bob, cyd to prepare")
    if is_prepared:
        ada.prepare()
    assert set_part(ada, campaign_id, "paused") == 204
    bob.prepare()
    cyd.prepare()
    wait_for_reason(operator, campaign_id, "waiting for the owner of ada, who paused")
    assert operator.get(f"/v1/campaigns/{campaign_id}")["state"] == "preparing"
    assert set_part(ada, campaign_id, "takes-part") == 204
    if not is_prepared:
        ada.prepare()
    ada.init(adapter_bytes(tmp_path))
    operator.wait_for(campaign_id, "running")
    assert "agent-joins-later" not in operator.events(campaign_id)


def test_all_that_it_waits_for_is_told_and_enough_of_the_others_begin_in_time(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd, dan, eve = (enroll(name) for name in ("ada", "bob", "cyd", "dan", "eve"))
    body = campaign_body(selection={"minimum": 1}, rounds=2, deadline={"prepare_s": 60})
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    wait_for_reason(operator, campaign_id, "waiting for ada, bob, cyd, dan, eve to prepare")
    for agent in (bob, cyd):
        answer_waiting(agent)
    for agent in (dan, eve):
        assert set_part(agent, campaign_id, "paused") == 204
    told = "waiting for the owners of bob, cyd to accept the campaign; waiting for the owners of dan, eve, who paused"
    wait_for_reason(operator, campaign_id, f"waiting for ada to prepare; {told}")
    coordinator.clock.move(61)
    coordinator.services.notifiers.wake_engine()
    wait_for_reason(operator, campaign_id, f"waiting for ada to prepare; {told}")
    ada.prepare()
    ada.init(adapter_bytes(tmp_path))
    operator.wait_for(campaign_id, "running")
    assert operator.events(campaign_id).count("agent-joins-later") == 4
    assert set_part(dan, campaign_id, "takes-part") == 204
    dan.prepare()
    ada.train(adapter_bytes(tmp_path, 1.0))
    for agent in (ada, dan):
        agent.train(adapter_bytes(tmp_path, 1.0))
    assert operator.wait_for(campaign_id, "completed")["rounds_closed"] == 2


@pytest.mark.usefixtures("coordinator")
def test_an_agent_that_failed_tries_again_once_its_owner_approves(operator: Operator, enroll: Enroll) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 2}))["id"]
    ada.failure(ada.lease("prepare"), kind="data", message="no such file")
    wait_for_reason(operator, campaign_id, "waiting for bob to prepare")
    assert set_part(ada, campaign_id, "takes-part") == 204
    wait_for_reason(operator, campaign_id, "waiting for ada, bob to prepare")
    for agent in (ada, bob):
        agent.prepare()
    operator.wait_for(campaign_id, "initializing")
