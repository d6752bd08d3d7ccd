"""Values that one of the databases refuses: 422 on both, and the campaign goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body

Enroll = Callable[..., ScriptedAgent]

pytestmark = pytest.mark.usefixtures("either_coordinator")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/campaigns/a%00b",
        "/v1/agents/a%00b",
        "/v1/campaigns?name=a%00b",
        "/v1/campaigns?cursor=a%00b",
        "/v1/campaigns/c/tasks?round=2147483648",
        "/v1/campaigns/c/events?after=9223372036854775808",
    ],
)
def test_a_path_or_a_query_that_no_column_holds_is_refused(operator: Operator, path: str) -> None:
    operator.post("/v1/campaigns", campaign_body(name="c"))
    reply = operator.http.get(path)
    assert (reply.status_code, problem(reply).kind, problem(reply).retryable) == (422, "invalid", False)


def test_a_text_that_is_merely_long_is_not_found(operator: Operator) -> None:
    assert operator.http.get(f"/v1/campaigns/{'x' * 2000}").status_code == 404


def test_a_header_that_its_column_cannot_hold_is_refused(operator: Operator) -> None:
    reply = operator.http.post("/v1/campaigns", json=campaign_body(), headers={"Idempotency-Key": "k" * 5000})
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")


@pytest.mark.parametrize("labels", [{"site": "a\x00"}, {"site": "\ud800"}, {"site": "a" * 10_000}])
def test_a_label_that_no_column_holds_is_refused(operator: Operator, labels: dict[str, str]) -> None:
    body = json.dumps({"labels": labels})  # with escapes: httpx cannot encode half of a character
    reply = operator.http.post("/v1/tokens", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")


def test_a_failure_and_metrics_that_no_column_holds_do_not_stop_the_campaign(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob])
    lease = bob.lease("train")
    body = bob.train_result(bob.upload(lease, "delta", adapter_bytes(tmp_path, 1.0)))
    metrics = [{**body["metrics"], "tokens": value} for value in (10**400, 1 << 63, -(10**400))]
    refused = [bob.result(lease, {**body, "metrics": each}) for each in metrics]
    refused.append(bob.failure(lease, kind="crash", message="x\x00y"))
    assert {(reply.status_code, problem(reply).kind) for reply in refused} == {(422, "invalid")}
    assert bob.result(lease, body).status_code == 200
    ada.train(adapter_bytes(tmp_path, 1.0))
    operator.wait_for(campaign_id, "completed")
