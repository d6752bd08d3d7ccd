"""Tokens, enrolment, keys: which credentials are accepted, where, and how they are stored."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.digest import content_digest_header, sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]

AGENT_CALLS = [
    ("POST", "/v1/leases", {"instance_id": "12345678", "version": "test"}),
    ("PATCH", "/v1/leases/none", {"progress": None}),
    ("DELETE", "/v1/leases/none", None),
    ("PUT", "/v1/leases/none/result", {"kind": "init", "adapter": "0" * 64}),
    ("PUT", "/v1/leases/none/failure", {"kind": "crash", "message": "gone"}),
    ("POST", f"/v1/leases/none/uploads?purpose=delta&sha256={'0' * 64}&n_bytes=1", None),
    ("PATCH", "/v1/uploads/none", None),
    ("DELETE", "/v1/uploads/none", None),
    ("POST", "/v1/agents/me/secret", {"secret_hash": "0" * 64}),
]
OPERATOR_CALLS = [
    ("POST", "/v1/tokens", {}),
    ("GET", "/v1/tokens", None),
    ("DELETE", "/v1/tokens/none", None),
    ("GET", "/v1/agents", None),
    ("GET", "/v1/agents/none", None),
    ("POST", "/v1/agents/none/revoke", None),
    ("POST", "/v1/campaigns", campaign_body()),
    ("GET", "/v1/campaigns", None),
    ("GET", "/v1/campaigns/none", None),
    ("POST", "/v1/campaigns/none/pause", None),
    ("POST", "/v1/campaigns/none/resume", None),
    ("POST", "/v1/campaigns/none/cancel", None),
    ("GET", "/v1/campaigns/none/rounds", None),
    ("GET", "/v1/campaigns/none/tasks", None),
    ("GET", "/v1/campaigns/none/metrics", None),
    ("GET", "/v1/campaigns/none/adapters", None),
    ("GET", "/v1/campaigns/none/adapters/0", None),
    ("GET", "/v1/campaigns/none/events", None),
    ("GET", "/v1/storage", None),
    ("GET", "/v1/algorithms", None),
]


def enroll_raw(operator: Operator, token: str, name: str = "ada") -> httpx.Response:
    body = {"token": token, "name": name, "version": "test", "secret_hash": sha256_hex(name.encode())}
    return operator.http.post("/v1/enrollments", json=body, headers={"Authorization": ""})


def test_a_token_that_is_wrong_used_expired_or_deleted_is_refused(
    coordinator: RunningCoordinator, operator: Operator
) -> None:
    used = operator.token()
    assert enroll_raw(operator, used).status_code == 201
    deleted = operator.post("/v1/tokens", {})
    assert operator.http.delete(f"/v1/tokens/{deleted['id']}").status_code == 204
    assert problem(operator.http.delete(f"/v1/tokens/{deleted['id']}")).kind == "not-found"
    expired = operator.token(expires_in_s=10)
    coordinator.clock.move(11)
    refused = {"fle_never-made": "unknown", used: "used by ada", deleted["token"]: "unknown", expired: "expired"}
    for token, reason in refused.items():
        reply = enroll_raw(operator, token, "bob")
        assert reply.status_code == 401
        assert problem(reply).kind == "token-refused"
        assert reason in problem(reply).detail
        assert token not in reply.text
    assert [row["name"] for row in operator.items("/v1/agents")] == ["ada"]


def test_a_refused_name_does_not_use_up_the_token(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    enroll("ada")
    token = operator.token()
    reply = enroll_raw(operator, token, "ada")
    assert (reply.status_code, problem(reply).kind) == (409, "name-taken")
    assert enroll_raw(operator, token, "bob").status_code == 201


@pytest.mark.usefixtures("either_coordinator")
def test_one_of_several_concurrent_enrolments_under_one_name_wins(operator: Operator) -> None:
    tokens = [operator.token() for _ in range(6)]
    replies: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda t=t: replies.append(enroll_raw(operator, t))) for t in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reply.status_code for reply in replies) == [201, *[409] * 5]
    unused = [row for row in operator.items("/v1/tokens") if row["used_at"] is None]
    assert len(unused) == 5


@pytest.mark.usefixtures("coordinator")
def test_an_agent_carries_its_tokens_labels(operator: Operator, enroll: Enroll) -> None:
    enroll("ada", country="nl")
    agent = operator.get("/v1/agents/ada")
    assert agent["labels"] == {"country": "nl"}
    assert agent["state"] == "active"
    listed = operator.items("/v1/tokens")
    assert listed[0]["used_by"] == "ada"
    assert not any("token" in row for row in listed)


@pytest.mark.usefixtures("coordinator")
def test_rotation_voids_the_old_secret_and_touches_no_other_agent(enroll: Enroll) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    secret = ada.rotate_secret()
    assert problem(ada.ask(0)).kind == "unauthenticated"
    ada.http.headers["Authorization"] = f"Bearer {secret}"
    assert ada.ask(0).status_code == 204
    assert bob.ask(0).status_code == 204


@pytest.mark.usefixtures("either_coordinator")
def test_an_agent_that_lost_the_reply_can_enrol_again(operator: Operator) -> None:
    """The repeated request must carry the same name and secret; any other is refused."""
    token, body = operator.token(), {"name": "ada", "version": "test", "secret_hash": "1" * 64}

    def enroll(**changes: str) -> httpx.Response:
        return operator.http.post("/v1/enrollments", json={"token": token, **body, **changes})

    first, again = enroll(), enroll()
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert "secret" not in again.text
    for other in ({"name": "bob"}, {"secret_hash": "2" * 64}):
        assert problem(enroll(**other)).kind == "token-refused"
    operator.post("/v1/agents/ada/revoke")
    assert problem(enroll()).kind == "token-refused"


@pytest.mark.usefixtures("either_coordinator")
def test_a_revoked_agent_is_shut_out_and_another_does_its_task(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = {name: enroll(name) for name in ("ada", "bob", "cyd")}
    selection = {"minimum": 2, "clients_per_round": 2}
    campaign_id = begin_campaign(operator, tmp_path, list(agents.values()), selection=selection)
    operator.wait_for(campaign_id, "running")
    names = ["ada", "bob", "cyd"]
    sampled = [names[each] for each in operator.items(f"/v1/campaigns/{campaign_id}/rounds")[0]["sampled"]]
    gone, stays = sampled
    spare = (set(names) - set(sampled)).pop()
    lease = agents[gone].lease("train")
    assert operator.post(f"/v1/agents/{gone}/revoke")["state"] == "revoked"
    operator.post(f"/v1/agents/{gone}/revoke")  # a repetition changes nothing
    for method, path, body in [*AGENT_CALLS, ("GET", f"/v1/blobs/{lease['assignment']['adapter']['sha256']}", None)]:
        reply = agents[gone].http.request(method, path, json=body)
        assert (reply.status_code, problem(reply).kind) == (403, "agent-revoked"), path
    assert agents[gone].http.head("/v1/uploads/none").status_code == 403
    agents[stays].train(adapter_bytes(tmp_path, 1.0))
    agents[spare].train(adapter_bytes(tmp_path, 3.0))
    operator.wait_for(campaign_id, "completed")
    shares = operator.items(f"/v1/campaigns/{campaign_id}/adapters")[1]["contributions"]
    assert {share["agent_name"] for share in shares} == {stays, spare}
    assert operator.events(campaign_id).count("agent-revoked") == 1


def test_revoking_ends_a_waiting_request_at_once(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada = enroll("ada")
    replies: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: replies.append(ada.ask(30)))
    waiting.start()
    operator.wait_until(lambda: coordinator.services.notifiers.tasks.keys, bool)
    operator.post("/v1/agents/ada/revoke")
    waiting.join(10)
    assert problem(replies[0]).kind == "agent-revoked"


@pytest.mark.usefixtures("coordinator")
def test_operator_and_agent_keys_reach_only_their_own_endpoints(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    for client, calls in ((operator.http, AGENT_CALLS), (ada.http, OPERATOR_CALLS)):
        for method, path, body in calls:
            reply = client.request(method, path, json=body)
            assert (reply.status_code, problem(reply).kind) == (403, "forbidden"), path
    assert problem(ada.http.get("/v1/blobs/" + "0" * 64)).kind == "forbidden"


@pytest.mark.usefixtures("coordinator")
def test_a_missing_malformed_or_unknown_key_is_refused(operator: Operator) -> None:
    reasons = {
        b"": "has no key",
        **dict.fromkeys((b"Bearer", b"Basic YTpi", b"flo_no"), "is malformed"),
        **dict.fromkeys((b"Bearer fla_no", b"Bearer flo_no", b"Bearer \xff"), "is unknown"),
    }
    for header, reason in reasons.items():
        with httpx.Client(base_url=operator.http.base_url, headers={b"Authorization": header}) as client:
            for method, path, body in [*AGENT_CALLS, *OPERATOR_CALLS]:
                reply = client.request(method, path, json=body)
                assert (reply.status_code, problem(reply).kind) == (401, "unauthenticated"), (header, path)
                assert reason in problem(reply).detail, (header, path)
                assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_secrets_are_in_no_log_line_and_not_in_the_database(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = operator.token()
    ada = ScriptedAgent(coordinator.url, token, "ada")
    lease: dict[str, Any] = {}
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    ada.prepare()
    lease = ada.lease("init")
    ada.send_chunk(lease, "none", 0, b"x", **{"Content-Digest": content_digest_header(b"y")})
    assert ada.result(lease, {"kind": "init", "adapter": "broken"}).status_code == 422
    fresh = ada.rotate_secret()
    enroll_raw(operator, token, "eve")
    ada.http.close()
    database_bytes = b"".join(path.read_bytes() for path in coordinator.services.settings.data_dir.glob("fedloom.db*"))
    assert ada.identity["agent_id"].encode() in database_bytes
    for secret in (token, ada.identity["secret"], fresh, coordinator.key, lease["token"]):
        assert secret not in caplog.text
        assert secret.encode() not in database_bytes
