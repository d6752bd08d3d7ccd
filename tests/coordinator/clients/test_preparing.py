"""Campaigns from their creation to adapter 0."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.digest import sha256_hex
from tests.support.operator import Operator
from tests.support.scripted import FINGERPRINT, ScriptedAgent, adapter_bytes, campaign_body, initial_bytes
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]
OTHER_BASE = {**FINGERPRINT, "weights": sha256_hex(b"other weights"), "template": sha256_hex(b"other template")}


def wait_for_reason(operator: Operator, campaign_id: str, part: str) -> None:
    operator.wait_until(
        lambda: operator.get(f"/v1/campaigns/{campaign_id}"), lambda found: part in (found["reason"] or "")
    )


@pytest.mark.usefixtures("coordinator")
def test_a_long_list_of_agents_is_abbreviated(operator: Operator, enroll: Enroll) -> None:
    agents = [enroll(f"site-{number:02}") for number in range(9)]
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    wait_for_reason(operator, campaign_id, "site-00, site-01, site-02, site-03, site-04 and 4 more to prepare")
    for agent in agents:
        agent.failure(agent.lease("prepare"), kind="data", message="no such file")
    paused = operator.wait_for(campaign_id, "paused")
    assert paused["reason"].endswith("site-04 and 4 more: no such file")


@pytest.mark.usefixtures("either_coordinator")
def test_with_too_few_agents_it_waits_and_says_for_what(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    enroll("elsewhere", site="west")
    body = campaign_body(selection={"minimum": 2, "labels": {"site": "east"}})
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    wait_for_reason(operator, campaign_id, "0 of 2 with site=east enrolled")
    ada = enroll("ada", site="east")
    wait_for_reason(operator, campaign_id, "1 of 2")
    bob = enroll("bob", site="east", size="large")
    wait_for_reason(operator, campaign_id, "waiting for ada, bob to prepare")
    ada.prepare()
    bob.prepare()
    ada.init(adapter_bytes(tmp_path))
    campaign = operator.wait_for(campaign_id, "running")
    assert campaign["reason"] is None
    assert [each["agent_name"] for each in campaign["participants"]] == ["ada", "bob"]


@pytest.mark.usefixtures("coordinator")
def test_the_base_model_of_the_majority_is_required(operator: Operator, enroll: Enroll) -> None:
    agents = {name: enroll(name) for name in ("ada", "bob", "cyd")}
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    agents["ada"].prepare(fingerprint=OTHER_BASE)
    agents["bob"].prepare()
    agents["cyd"].prepare()
    campaign = operator.wait_for(campaign_id, "initializing")
    ada, bob, cyd = campaign["participants"]
    assert (ada["state"], ada["client_number"]) == ("mismatched", None)
    assert "differs from the others' in: weights, template" in ada["reason"]
    assert [(each["state"], each["client_number"]) for each in (bob, cyd)] == [("prepared", 0), ("prepared", 1)]
    assert agents["bob"].lease("init")["assignment"]["fingerprint"] == FINGERPRINT


@pytest.mark.usefixtures("either_coordinator")
def test_too_few_that_agree_pause_it_and_resuming_asks_them_again(operator: Operator, enroll: Enroll) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    ada.prepare()
    bob.prepare(fingerprint=OTHER_BASE)
    reason = operator.wait_for(campaign_id, "paused")["reason"]
    assert reason.startswith("1 of 2 agents are ready")
    assert "bob: its base model differs" in reason
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    assert ada.ask(0).status_code == 204
    bob.prepare()
    operator.wait_for(campaign_id, "initializing")


@pytest.mark.usefixtures("coordinator")
def test_failures_and_empty_data_are_reported_and_can_be_fixed(operator: Operator, enroll: Enroll) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    ada.failure(ada.lease("prepare"), kind="base-model", message="set HF_TOKEN")
    bob.prepare(n_train=0)
    reason = operator.wait_for(campaign_id, "paused")["reason"]
    assert "ada: set HF_TOKEN" in reason
    assert "bob: the data has no training rows" in reason
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    ada.prepare()
    bob.prepare()
    operator.wait_for(campaign_id, "initializing")


def test_a_campaign_starts_without_slow_agents_after_the_time_limit(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    agents = {name: enroll(name) for name in ("ada", "bob", "slow")}
    campaign_id = operator.post("/v1/campaigns", campaign_body(deadline={"prepare_s": 1000}))["id"]
    agents["ada"].prepare()
    coordinator.clock.move(1001)
    wait_for_reason(operator, campaign_id, "waiting for bob, slow to prepare")
    lease = agents["slow"].lease("prepare")
    agents["bob"].prepare()
    campaign = operator.wait_for(campaign_id, "initializing")
    slow = campaign["participants"][2]
    assert (slow["state"], slow["client_number"]) == ("preparing", None)
    assert agents["slow"].renew(lease).json()["directive"] == "continue"


@pytest.mark.usefixtures("either_coordinator")
def test_another_client_builds_adapter_0_if_the_first_cannot(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    ada.prepare()
    bob.prepare()
    ada.failure(ada.lease("init"), kind="crash", message="out of luck")
    bob.failure(bob.lease("init"), kind="crash", message="no luck either")
    reason = operator.wait_for(campaign_id, "paused")["reason"]
    assert reason == "no agent could build adapter 0: out of luck; no luck either"
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    ada.init(initial_bytes(tmp_path, 0.5))
    operator.wait_for(campaign_id, "running")


def test_a_silent_client_is_passed_over_for_adapter_0_but_not_for_time_that_was_paused(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body(deadline={"round_s": 1000}))["id"]
    ada.prepare()
    bob.prepare()
    operator.wait_for(campaign_id, "initializing")
    operator.wait_until(lambda: operator.items(f"/v1/campaigns/{campaign_id}/tasks"), lambda found: len(found) == 3)
    operator.post(f"/v1/campaigns/{campaign_id}/pause")
    coordinator.clock.move(5000)
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    lease = ada.lease("init")
    assert bob.ask(0.3).status_code == 204
    coordinator.clock.move(1001)
    bob.init(adapter_bytes(tmp_path))
    operator.wait_for(campaign_id, "running")
    assert ada.renew(lease).status_code in (200, 410)
    assert ada.start_upload(lease, "adapter", b"x").status_code == 410
