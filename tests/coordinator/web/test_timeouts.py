"""Who makes no progress is disconnected; who is only slow is served."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from coordinator.settings import LimitSettings, Settings
from coordinator.web.limits.protocol import MAX_HEADER_BYTES, MIN_BODY_BYTES
from tests.support.operator import Operator
from tests.support.raw_http import ask, connected, is_closed, read_reply, request
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator, quick_settings

Enroll = Callable[..., ScriptedAgent]
LIMIT_S = 1.0
HEALTH = request("GET", "/healthz")


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    limits = LimitSettings(header_s=LIMIT_S, body_s=LIMIT_S, reply_s=LIMIT_S, keep_alive_s=1)
    return partial(quick_settings, limits=limits)


def test_silent_and_half_sent_requests_are_closed_and_others_served_meanwhile(
    coordinator: RunningCoordinator, operator: Operator
) -> None:
    half = b"POST /v1/enrollments HTTP/1.1\r\nHost: test\r\nContent-Ty"
    short = request("POST", "/v1/enrollments", b" " * 4000, Content_Type="application/json")[:-1]
    with ExitStack() as stack:
        began = time.monotonic()
        stuck = [
            stack.enter_context(connected(coordinator.url, sent)) for sent in [half] * 60 + [b""] * 20 + [short] * 30
        ]
        assert operator.http.get("/v1/campaigns").status_code == 200
        for number, connection in enumerate(stuck):
            reply = read_reply(connection)
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            words = "the body of the request does not advance" if number >= 80 else "the header of a request did not"
            assert reply.problem["detail"].startswith(words)
            assert is_closed(connection)
        assert time.monotonic() - began < 10 * LIMIT_S
        assert operator.http.get("/v1/campaigns").status_code == 200
    assert ask(coordinator.url, HEALTH).status == 200


def test_a_header_by_drops_is_cut(coordinator: RunningCoordinator) -> None:
    began = time.monotonic()
    with connected(coordinator.url, b"GET /healthz HTTP/1.1\r\n") as connection:
        connection.settimeout(0.1)
        while time.monotonic() - began < 8 * LIMIT_S:
            try:
                connection.sendall(b"X-A: b\r\n")
                connection.recv(1)
                break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - began < 8 * LIMIT_S


def test_a_body_by_drops_is_cut(coordinator: RunningCoordinator, operator: Operator) -> None:
    sent = request(
        "POST", "/v1/tokens", Content_Length="9999", Content_Type="application/json", Authorization=bearer(operator.key)
    )
    began = time.monotonic()
    with connected(coordinator.url, sent) as connection:
        connection.settimeout(0.1)
        received = b""
        while not received and time.monotonic() - began < 8 * LIMIT_S:
            try:
                connection.sendall(b" ")
                received = connection.recv(4096)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408 ")


def bearer(key: str) -> str:
    return f"Bearer {key}"


@pytest.mark.deep
def test_a_slow_line_that_advances_may_take_many_times_as_long(operator: Operator) -> None:
    """The body takes three time-outs, but in each of them there is enough of it."""
    body = b"{}".ljust(6 * MIN_BODY_BYTES)
    sent = request(
        "POST",
        "/v1/tokens",
        Content_Length=str(len(body)),
        Content_Type="application/json",
        Authorization=bearer(operator.key),
    )
    piece = MIN_BODY_BYTES // 2
    began = time.monotonic()
    with connected(str(operator.http.base_url), sent) as connection:
        for offset in range(0, len(body), piece):
            connection.sendall(body[offset : offset + piece])
            time.sleep(LIMIT_S / 4)
        assert read_reply(connection).status == 201
    assert time.monotonic() - began > 2 * LIMIT_S


def test_a_request_that_waits_for_work_outlasts_every_time_out(enroll: Enroll) -> None:
    began = time.monotonic()
    assert enroll("ada").ask(wait_s=2.5 * LIMIT_S).status_code == 204
    assert time.monotonic() - began > 2 * LIMIT_S


@pytest.mark.deep
def test_bytes_between_requests_do_not_cut_the_request_in_progress(
    coordinator: RunningCoordinator, enroll: Enroll
) -> None:
    secret = enroll("ada").identity["secret"]
    body = b'{"instance_id": "12345678", "version": "1"}'
    headers = {"Content_Type": "application/json", "Prefer": f"wait={2.5 * LIMIT_S}", "Authorization": bearer(secret)}
    with connected(coordinator.url, request("POST", "/v1/leases", body, **headers) + b"\r\n") as connection:
        assert read_reply(connection).status == 204


def test_an_idle_connection_is_closed_and_stray_bytes_do_not_keep_it(coordinator: RunningCoordinator) -> None:
    for stray in (b"", b"\r\n"):
        began = time.monotonic()
        with connected(coordinator.url, HEALTH) as connection:
            assert read_reply(connection).status == 200
            connection.sendall(stray)
            closed = is_closed(connection) or read_reply(connection).status == 408
        assert closed
        assert time.monotonic() - began < 8 * LIMIT_S


@pytest.mark.deep
def test_who_takes_nothing_of_a_reply_is_cut(coordinator: RunningCoordinator, operator: Operator) -> None:
    """Thousands of requests at once, whose replies nobody reads: they fill every buffer on the way."""
    listing = request("GET", "/openapi.json", Authorization=bearer(operator.key))
    with connected(coordinator.url) as connection:
        connection.settimeout(0.2)
        began = time.monotonic()
        is_cut = False
        while not is_cut and time.monotonic() - began < 15 * LIMIT_S:
            try:
                connection.sendall(listing)
            except TimeoutError:
                continue
            except OSError:
                is_cut = True
        assert is_cut


def test_a_header_without_end_is_refused(coordinator: RunningCoordinator) -> None:
    endless = b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * (MAX_HEADER_BYTES + 1)
    reply = ask(coordinator.url, endless)
    assert (reply.status, reply.problem["detail"]) == (431, "the header of the request is too large")


def test_what_is_no_http_is_refused_with_a_problem(coordinator: RunningCoordinator) -> None:
    reply = ask(coordinator.url, b"\x16\x03\x01\x02\x00\x01\x00 no http\r\n\r\n")
    assert (reply.status, reply.problem["type"]) == (400, "urn:fedloom:problem:bad-request")


def test_a_websocket_is_not_spoken(coordinator: RunningCoordinator, operator: Operator) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    sent = request("GET", "/v1/campaigns", Sec_WebSocket_Version="13", **headers)
    assert ask(coordinator.url, sent).status == 401
