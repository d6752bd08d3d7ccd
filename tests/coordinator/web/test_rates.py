"""Limits by address for requests without a valid key, and by agent for the others."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from coordinator.database.prepared import Prepared
from coordinator.settings import LimitSettings, Settings
from coordinator.web.limits.rates import Buckets, address_key
from shared.digest import sha256_hex
from tests.support.operator import Operator, problem
from tests.support.raw_http import ask, connected, read_reply, request
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator, quick_settings

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    limits = LimitSettings(refused_per_minute=6, agent_requests_per_s=2, agent_requests_at_once=2)
    return partial(quick_settings, limits=limits)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_bucket_is_full_at_first_and_fills_again() -> None:
    clock = Clock()
    buckets = Buckets(per_s=0.5, burst=3, now=clock)
    for _ in range(3):
        assert buckets.wait_s("a") == 0
        buckets.charge("a")
    assert buckets.wait_s("a") == 2
    assert buckets.wait_s("b") == 0
    clock.now_s = 2.0
    assert buckets.wait_s("a") == 0
    buckets.charge("a")
    clock.now_s = 1000.0
    for _ in range(3):
        buckets.charge("a")
    assert buckets.wait_s("a") == 2, "it holds no more than a burst, however long it was left"


def test_what_is_overdrawn_is_paid_for_but_bounded() -> None:
    clock = Clock()
    buckets = Buckets(per_s=1, burst=10, now=clock)
    for _ in range(1000):
        buckets.charge("a")
    assert buckets.wait_s("a") == 11


def test_the_table_of_buckets_is_bounded() -> None:
    buckets = Buckets(per_s=0.01, burst=1)
    for number in range(50_000):
        buckets.charge(str(number))
    assert len(buckets) <= 10_000
    assert buckets.wait_s("49999") > 0
    for number in range(50_000):
        buckets.wait_s(f"only asked {number}")
    assert len(buckets) <= 10_000


def test_an_ipv6_household_is_one_address() -> None:
    assert address_key("2001:db8:1:2:3:4:5:6") == address_key("2001:db8:1:2::1") != address_key("2001:db8:1:3::1")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") != address_key("192.0.2.2")
    assert address_key("fe80::1%eth0") == address_key("fe80::2")
    assert len(address_key("x" * 5000)) == 64


def refuse_until_limited(http: httpx.Client) -> httpx.Response:
    for _ in range(20):
        reply = http.get("/v1/campaigns", headers={"Authorization": "Bearer flo_guess"})
        if reply.status_code == 429:
            return reply
        assert reply.status_code == 401
    raise AssertionError("never limited")


def test_guessing_is_limited_and_says_when_to_come_back(coordinator: RunningCoordinator) -> None:
    with httpx.Client(base_url=coordinator.url, verify=False) as http:
        limited = refuse_until_limited(http)
        assert problem(limited).kind == "too-many-requests"
        assert problem(limited).retryable
        assert 1 <= int(limited.headers["Retry-After"]) <= 10
        assert problem(limited).detail == (
            "too many requests from this address were refused (enrolment, or a key that is missing or unknown); "
            f"try again in {limited.headers['Retry-After']} s"
        )


def test_a_valid_key_at_the_same_address_is_never_limited(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll
) -> None:
    ada = enroll("ada")
    token = operator.token()
    with httpx.Client(base_url=coordinator.url, verify=False) as http:
        for _ in range(10):
            refuse_until_limited(http)
            assert operator.http.get("/v1/campaigns").status_code == 200
        assert ada.ask(wait_s=0).status_code == 204
        assert http.get("/healthz").status_code == http.get("/readyz").status_code == 200
        body = {"token": token, "name": "bob", "version": "1", "secret_hash": sha256_hex(b"bob")}
        assert http.post("/v1/enrollments", json=body).status_code == 429


def test_only_refused_enrolments_count(coordinator: RunningCoordinator, operator: Operator) -> None:
    with httpx.Client(base_url=coordinator.url, verify=False) as http:
        for number in range(20):
            name = f"agent-{number}"
            body = {"token": operator.token(), "name": name, "version": "1", "secret_hash": sha256_hex(name.encode())}
            assert http.post("/v1/enrollments", json=body).status_code == 201
        statuses = [http.post("/v1/enrollments", json={**body, "token": "fle_guess"}).status_code for _ in range(8)]
        assert statuses == [401] * 6 + [429] * 2


@pytest.mark.parametrize("authorization", [None, "x", "Bearer", "Bearer flo_guess", "Basic YTpi"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/nothing"), ("PUT", "/v1/campaigns"), ("PUT", "/healthz")],
)
def test_what_everybody_may_ask_for_is_limited_too(
    coordinator: RunningCoordinator, operator: Operator, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with httpx.Client(base_url=coordinator.url, verify=False, headers=headers, timeout=60) as http:
        statuses = [http.request(method, path).status_code for _ in range(8)]
        if path != "/healthz":
            assert statuses[6:] == [429, 429]
        assert 429 not in statuses[:6]
        assert [http.get(probe).status_code for probe in ("/healthz", "/readyz") for _ in range(20)] == [200] * 40
        assert operator.http.get("/v1/campaigns").status_code == 200


def test_a_probe_with_a_wrong_key_is_answered_and_its_key_is_looked_up_a_few_times(
    coordinator: RunningCoordinator, operator: Operator
) -> None:
    asked = []
    ask = coordinator.services.database.ask

    async def counting(query: Prepared, **values: object) -> object:
        asked.append(str(query))
        return await ask(query, **values)

    coordinator.services.database.ask = counting  # type: ignore[assignment,method-assign]
    headers = {"Authorization": "Bearer flo_guess"}
    with httpx.Client(base_url=coordinator.url, verify=False, headers=headers, timeout=60) as http:
        replies = [http.get("/readyz") for _ in range(20)]
        assert {(reply.status_code, reply.json()["version"]) for reply in replies} == {(200, None)}
        assert len([each for each in asked if "operator_keys" in each]) == 6
        assert http.get("/docs").status_code == 429
    assert operator.http.get("/v1/campaigns").status_code == 200


def test_probes_without_a_key_never_count(coordinator: RunningCoordinator) -> None:
    with httpx.Client(base_url=coordinator.url, verify=False) as http:
        assert {http.get(path).status_code for path in ("/healthz", "/readyz") for _ in range(20)} == {200}
        assert http.get("/docs").status_code == 200


def test_an_agent_that_asks_too_often_waits_and_another_does_not(enroll: Enroll) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    statuses = [ada.ask(wait_s=0).status_code for _ in range(60)]
    assert statuses[:20] == [204] * 20
    limited = ada.ask(wait_s=0)
    assert 429 in statuses
    assert limited.status_code == 429
    assert int(limited.headers["Retry-After"]) == 1
    assert bob.ask(wait_s=0).status_code == 204


def test_an_agent_has_few_requests_at_the_same_time(coordinator: RunningCoordinator, enroll: Enroll) -> None:
    secret = enroll("ada").identity["secret"]
    body = b'{"instance_id": "12345678", "version": "1"}'
    headers = {"Authorization": f"Bearer {secret}", "Content_Type": "application/json"}
    waiting = request("POST", "/v1/leases", body, Prefer="wait=20", **headers)
    with connected(coordinator.url, waiting) as first, connected(coordinator.url, waiting) as second:
        time.sleep(0.3)
        third = ask(coordinator.url, request("POST", "/v1/leases", body, **headers))
        assert (third.status, third.headers["retry-after"]) == (429, "1")
        assert third.problem["detail"] == "this agent has 2 requests in progress; try again in 1 s"
        coordinator.loop.call_soon_threadsafe(coordinator.services.notifiers.close)
        assert [read_reply(each).status for each in (first, second)] == [204, 204]
    assert ask(coordinator.url, request("POST", "/v1/leases", body, **headers)).status == 204
