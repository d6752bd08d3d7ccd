"""Behaviour common to all calls: protocol header, request ids, problem replies, body limits."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import update

from coordinator.database.tables import CampaignRow
from shared.wire import base
from shared.wire.base import PROTOCOL
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]

pytestmark = pytest.mark.usefixtures("coordinator")


def test_a_protocol_that_is_not_served_is_refused(operator: Operator) -> None:
    for spoken in ("0", "1", "2", "-1", "one", "", "1.5", "9" * 5000):
        reply = operator.http.get("/v1/campaigns", headers={"Fedloom-Protocol": spoken})
        assert (reply.status_code, problem(reply).kind) == (426, "protocol-not-served"), spoken[:20]
        assert problem(reply).detail == (
            f"your version of fedloom uses protocol {spoken[:20]}, this coordinator uses {PROTOCOL}; install the same "
            "version of fedloom on both sides"
        )
        assert problem(reply).request_id == reply.headers["X-Request-Id"]


def test_an_older_protocol_that_is_still_served_is_answered(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older peer is simulated."""
    monkeypatch.setattr(base, "SERVED_PROTOCOLS", frozenset({PROTOCOL, "0-old"}))
    reply = operator.http.get("/v1/campaigns", headers={"Fedloom-Protocol": "0-old"})
    assert (reply.status_code, reply.headers["Fedloom-Protocol"]) == (200, PROTOCOL)


def test_every_reply_names_the_protocol_and_the_request(operator: Operator) -> None:
    seen = set()
    for path in ("/healthz", "/readyz", "/v1/campaigns", "/v1/campaigns/none", "/nowhere", "/v1/blobs/none"):
        reply = operator.http.get(path)
        assert reply.headers["Fedloom-Protocol"] == PROTOCOL
        seen.add(reply.headers["X-Request-Id"])
        if reply.is_error:
            assert problem(reply).request_id == reply.headers["X-Request-Id"]
    assert len(seen) == 6


def test_an_unexpected_error_is_a_problem_with_the_same_headers(
    coordinator: RunningCoordinator, operator: Operator
) -> None:
    async def spoil() -> None:
        async with coordinator.services.database.write("test") as session:
            await session.execute(update(CampaignRow).values(spec_json={"not": "a campaign"}))

    operator.post("/v1/campaigns", campaign_body())
    coordinator.run(spoil())
    reply = operator.http.get("/v1/campaigns")
    assert (reply.status_code, problem(reply).kind, problem(reply).retryable) == (500, "internal", True)
    assert "not" not in problem(reply).detail.split()
    assert problem(reply).request_id == reply.headers["X-Request-Id"]
    assert reply.headers["Fedloom-Protocol"] == PROTOCOL


def test_unknown_routes_and_methods_are_problems(operator: Operator) -> None:
    missing = operator.http.get("/v1/nothing-here")
    assert (missing.status_code, problem(missing).kind) == (404, "bad-request")
    assert problem(missing).detail == "the API has nothing at this path; /docs lists all requests"
    wrong = operator.http.delete("/v1/campaigns")
    assert (wrong.status_code, problem(wrong).kind) == (405, "bad-request")
    assert wrong.headers["Allow"]


def test_a_body_over_a_mebibyte_is_refused(operator: Operator) -> None:
    body = b'{"name": "' + b"x" * (1 << 20) + b'"}'

    def in_pieces() -> Iterator[bytes]:  # without a Content-Length
        yield body[: 1 << 19]
        yield body[1 << 19 :]

    for content in (body, in_pieces()):
        reply = operator.http.post("/v1/campaigns", content=content, headers={"Content-Type": "application/json"})
        assert (reply.status_code, problem(reply).kind) == (413, "too-large")


def test_invalid_json_and_unknown_fields_are_named(operator: Operator, enroll: Enroll) -> None:
    broken = operator.http.post("/v1/tokens", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, problem(broken).kind) == (422, "invalid")
    unknown = operator.http.post("/v1/campaigns", json=campaign_body(lora={"rank": 2, "rang": 3}))
    assert (unknown.status_code, problem(unknown).kind) == (422, "invalid")
    assert [each.field for each in problem(unknown).errors] == ["lora.rang"]
    asked = enroll("ada").http.post("/v1/leases", json={"instance_id": "12345678", "version": "1", "more": 1})
    assert [each.field for each in problem(asked).errors] == ["more"]


def test_a_problem_never_repeats_what_was_sent(operator: Operator) -> None:
    reply = operator.http.post("/v1/enrollments", json={"token": ["fle_secret"], "name": "ada", "version": "1"})
    assert reply.status_code == 422
    assert "fle_secret" not in reply.text


def test_numbers_that_no_column_holds_are_refused(operator: Operator) -> None:
    url = f"/v1/campaigns/{operator.post('/v1/campaigns', campaign_body())['id']}"
    too_large = "9" * 20
    for path in (
        f"{url}/rounds?cursor=x",
        f"{url}/rounds?cursor={too_large}",
        f"{url}/tasks?round={too_large}",
        f"{url}/metrics?round=-1",
        f"{url}/adapters/{too_large}",
        f"{url}/events?after={too_large}",
        "/v1/campaigns?limit=0",
        "/v1/campaigns?limit=1001",
    ):
        reply = operator.http.get(path)
        assert (reply.status_code, problem(reply).kind) == (422, "invalid"), path


def test_garbled_lease_headers_are_a_lost_lease(enroll: Enroll) -> None:
    ada = enroll("ada")
    for header in ("", "1", "1.", ".x", "one.x", "-1.x", "9" * 5000 + ".x", "99999999999.x"):
        reply = ada.http.patch("/v1/leases/none", json={"progress": None}, headers={"Fedloom-Lease": header})
        assert (reply.status_code, problem(reply).kind) == (410, "lease-lost"), header[:20]


def test_health_needs_no_key(operator: Operator) -> None:
    for path in ("/healthz", "/readyz"):
        assert httpx.get(f"{operator.http.base_url}{path}").json()["status"] == "ok"
