"""Campaigns as operators create and control them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body

Enroll = Callable[..., ScriptedAgent]


def refuse(operator: Operator, campaign_id: str, *moves: str) -> None:
    for move in moves:
        reply = operator.campaign(campaign_id, move)
        assert (reply.status_code, problem(reply).kind) == (409, "illegal-move"), move


def pause_and_resume(operator: Operator, campaign_id: str, phase: str) -> None:
    operator.wait_for(campaign_id, phase)
    refuse(operator, campaign_id, "resume")
    paused = operator.post(f"/v1/campaigns/{campaign_id}/pause")
    assert (paused["state"], paused["reason"]) == ("paused", "paused by the operator")
    refuse(operator, campaign_id, "pause")
    resumed = operator.post(f"/v1/campaigns/{campaign_id}/resume")
    assert (resumed["state"], resumed["reason"]) == (phase, None)


@pytest.mark.usefixtures("either_coordinator")
def test_a_campaign_is_paused_and_resumed_in_each_phase(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body(evaluation={"every": 1}))["id"]
    ada.lease("prepare")
    pause_and_resume(operator, campaign_id, "preparing")
    ada.prepare(n_held_out=5)  # its lease outlived the pause; asking again grants it again
    bob.prepare()
    pause_and_resume(operator, campaign_id, "initializing")
    ada.init(adapter_bytes(tmp_path))
    pause_and_resume(operator, campaign_id, "running")
    ada.evaluate(2.0)
    ada.train(adapter_bytes(tmp_path, 1.0))
    lease = bob.lease("train")
    operator.post(f"/v1/campaigns/{campaign_id}/pause")
    assert bob.renew(lease).json()["directive"] == "continue"
    bob.train(adapter_bytes(tmp_path, 3.0), lease)  # work in progress is finished and counts
    assert bob.ask(0).status_code == 204
    assert operator.items(f"/v1/campaigns/{campaign_id}/rounds")[0]["state"] == "open"
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    pause_and_resume(operator, campaign_id, "finishing")
    ada.evaluate(1.0)
    operator.wait_for(campaign_id, "completed")
    refuse(operator, campaign_id, "pause", "resume", "cancel")


@pytest.mark.usefixtures("coordinator")
def test_paused_work_is_handed_out_only_after_resuming(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    operator.wait_until(lambda: operator.items(f"/v1/campaigns/{campaign_id}/tasks"), bool)
    operator.post(f"/v1/campaigns/{campaign_id}/pause")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ada.ask, 20)
        assert ada.http.get("/healthz").is_success
        operator.post(f"/v1/campaigns/{campaign_id}/resume")
        assert asked.result(15).status_code == 201


@pytest.mark.parametrize("phase", ["preparing", "initializing", "running", "finishing", "paused"])
@pytest.mark.usefixtures("coordinator")
def test_a_campaign_is_cancelled_in_each_phase(operator: Operator, enroll: Enroll, tmp_path: Path, phase: str) -> None:
    ada = enroll("ada")
    body = campaign_body(selection={"minimum": 1}, evaluation={"every": 1})
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    kind, adapter = "prepare", None
    if phase != "preparing":
        ada.prepare(n_held_out=5)
        kind = "init"
    if phase in ("running", "finishing"):
        ada.init(adapter_bytes(tmp_path))
        ada.evaluate(2.0)
        kind, adapter = "train", 0
    if phase == "finishing":
        ada.train(adapter_bytes(tmp_path, 1.0))
        kind, adapter = "evaluate", 1
    lease = ada.lease(kind)
    if phase == "paused":
        operator.post(f"/v1/campaigns/{campaign_id}/pause")
    operator.wait_for(campaign_id, phase)
    cancelled = operator.post(f"/v1/campaigns/{campaign_id}/cancel")
    assert (cancelled["state"], cancelled["final_adapter"]) == ("cancelled", adapter)
    assert cancelled["ended_at"] is not None
    assert ada.renew(lease).json()["directive"] == "cancel"
    assert ada.failure(lease, kind="crash", message="cancelled").status_code == 410
    refuse(operator, campaign_id, "pause", "resume", "cancel")
    assert ada.ask(0).status_code == 204
    tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    assert not {task["state"] for task in tasks} & {"pending", "leased"}
    assert operator.get(f"/v1/campaigns/{campaign_id}")["reason"] == "cancelled by the operator"


@pytest.mark.usefixtures("coordinator")
def test_the_updates_of_a_cancelled_round_are_released(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob])
    ada.train(adapter_bytes(tmp_path, 1.0))
    lease = bob.lease("train")
    bob.upload(lease, "delta", adapter_bytes(tmp_path, 2.0))
    assert "delta" in operator.get("/v1/storage")["bytes_by_kind"]
    operator.post(f"/v1/campaigns/{campaign_id}/cancel")
    assert operator.items(f"/v1/campaigns/{campaign_id}/rounds")[0]["state"] == "cancelled"
    storage = operator.wait_until(
        lambda: operator.get("/v1/storage"), lambda found: set(found["bytes_by_kind"]) == {"adapter"}
    )
    assert storage["n_blobs"] == 1


@pytest.mark.usefixtures("either_coordinator")
def test_an_idempotency_key_makes_one_campaign(operator: Operator) -> None:
    def create(body: dict[str, Any], key: str) -> Any:
        return operator.http.post("/v1/campaigns", json=body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: create(campaign_body(), "once"), range(4)))
    assert [reply.status_code for reply in replies] == [201] * 4
    assert len({reply.json()["id"] for reply in replies}) == 1
    other = create(campaign_body(rounds=2), "once")
    assert (other.status_code, problem(other).kind) == (409, "conflict")
    assert create(campaign_body(rounds=2), "twice").status_code == 201
    operator.post("/v1/campaigns", campaign_body())
    operator.post("/v1/campaigns", campaign_body())
    assert len(operator.items("/v1/campaigns")) == 4


@pytest.mark.usefixtures("coordinator")
def test_an_invalid_campaign_is_refused(operator: Operator) -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"algorithm": {"name": "fedmagic"}}, "algorithm", "unknown algorithm 'fedmagic'; known are"),
        ({"algorithm": {"name": "fedavg", "params": {"mu": 1}}}, "algorithm", "params.mu"),
        ({"rounds": 0}, "rounds", "greater than"),
        ({"training": {}}, "training", "steps or epochs"),
        ({"selection": {"minimum": 3, "clients_per_round": 2}}, "selection", "minimum 3"),
        ({"name": "no spaces please"}, "name", "pattern"),
        ({"colour": "red"}, "colour", "not permitted"),
    ]
    for changes, field, message in cases:
        reply = operator.http.post("/v1/campaigns", json=campaign_body(**changes))
        assert (reply.status_code, problem(reply).kind) == (422, "invalid"), changes
        assert [each.field for each in problem(reply).errors] == [field]
        assert message in problem(reply).errors[0].message
    assert operator.items("/v1/campaigns") == []


@pytest.mark.usefixtures("coordinator")
def test_unknown_resources_are_not_found(operator: Operator) -> None:
    for move in ("pause", "resume", "cancel"):
        assert problem(operator.campaign("none", move)).kind == "not-found"
    for path in ("", "/rounds", "/tasks", "/metrics", "/adapters", "/adapters/0", "/events"):
        assert problem(operator.http.get(f"/v1/campaigns/none{path}")).kind == "not-found"
    assert problem(operator.http.get("/v1/agents/none")).kind == "not-found"


@pytest.mark.usefixtures("coordinator")
def test_the_service_lists_its_algorithms_and_storage(operator: Operator) -> None:
    fedavg = next(each for each in operator.items("/v1/algorithms") if each["name"] == "fedavg")
    assert fedavg["summary"].startswith("FedAvg")
    storage = operator.get("/v1/storage")
    assert (storage["n_blobs"], storage["n_bytes"], storage["bytes_by_kind"]) == (0, 0, {})
    assert storage["free_bytes"] > 0
