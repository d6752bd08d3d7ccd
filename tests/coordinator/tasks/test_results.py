"""Results: each counts once, even if it is sent again."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.messages import evaluated
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body, prepared

Enroll = Callable[..., ScriptedAgent]

pytestmark = pytest.mark.usefixtures("either_coordinator")


def test_the_same_result_twice_counts_once_and_another_is_refused(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob])
    lease = ada.lease("train")
    result = ada.train_result(ada.upload(lease, "delta", adapter_bytes(tmp_path, 1.0)))
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: ada.result(lease, result), range(4)))
    assert [reply.status_code for reply in replies] == [200] * 4
    differs = ada.result(lease, ada.train_result(result["delta"], steps=2))
    assert (differs.status_code, problem(differs).kind) == (409, "result-differs")
    assert ada.renew(lease).status_code == 410
    bob.train(adapter_bytes(tmp_path, 3.0))
    operator.wait_for(campaign_id, "completed")
    assert ada.result(lease, result).status_code == 200
    metrics = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="tokens")
    assert [metric["client_number"] for metric in metrics] == [0, 1]
    events = operator.items(f"/v1/campaigns/{campaign_id}/events")
    assert sum(event["type"] == "task-done" and event["data"]["kind"] == "train" for event in events) == 2


def test_a_result_of_another_kind_is_refused_and_the_lease_lives_on(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    lease = ada.lease("prepare")
    wrong = ada.result(lease, evaluated(1.0, n_rows=1, n_tokens=1))
    assert (wrong.status_code, [each.field for each in problem(wrong).errors]) == (422, ["kind"])
    assert ada.result(lease, {"kind": "no-such-kind"}).status_code == 422
    assert ada.result(lease, prepared()).status_code == 200


def test_numbers_that_are_not_finite_are_refused(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    lease = ada.lease("prepare")
    for loss in ("NaN", "Infinity", "1e999"):
        content = f'{{"kind": "evaluate", "metrics": {{"held_out_loss": {loss}}}}}'.encode()
        headers = {**ada.header(lease), "Content-Type": "application/json"}
        reply = ada.http.put(f"/v1/leases/{lease['task_id']}/result", content=content, headers=headers)
        assert (reply.status_code, problem(reply).kind) == (422, "invalid")


def test_the_same_failure_twice_counts_once(operator: Operator, enroll: Enroll) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    lease = ada.lease("prepare")
    failure = {"kind": "refused-by-policy", "message": "this agent does not train tiny models"}
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: ada.failure(lease, **failure), range(4)))
    assert [reply.status_code for reply in replies] == [200] * 4
    assert ada.failure(lease, kind="crash", message="no, otherwise").status_code == 410
    assert ada.result(lease, prepared(1)).is_error
    assert operator.events(campaign_id).count("task-failed") == 1
    participant = operator.get(f"/v1/campaigns/{campaign_id}")["participants"][0]
    assert (participant["state"], participant["reason"]) == ("failed", failure["message"])
    task = next(row for row in operator.items(f"/v1/campaigns/{campaign_id}/tasks") if row["state"] == "failed")
    assert (task["agent_name"], task["failure"]["kind"]) == ("ada", "refused-by-policy")
    bob.prepare()


def test_any_text_and_any_number_gets_an_answer(operator: Operator, enroll: Enroll) -> None:
    """Text that the database cannot store is a final error of the sender; otherwise the agent would retry forever."""
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    lease = ada.lease("prepare")
    reply = ada.result(lease, prepared(10**30))
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")
    reply = ada.failure(lease, kind="crash", message="a \x00 in it")
    assert reply.status_code in (200, 422)
    if reply.status_code == 422:
        assert ada.failure(lease, kind="crash", message="plain").status_code == 200
