"""The header of a request has at most 64 kB, in however many pieces it comes, and also if its end comes with them."""

import time

import pytest

from coordinator.web.limits.protocol import MAX_HEADER_BYTES
from tests.support.raw_http import ask, connected, read_reply, request
from tests.support.server import RunningCoordinator

KB = 1000
TOO_LARGE = {
    "one field": request("GET", "/healthz", X_A="a" * 100 * KB),
    "many fields": request("GET", "/healthz", **{f"X_{n}": "a" * KB for n in range(100)}),
    "names": request("GET", "/healthz", **{f"X_{n}_{'b' * KB}": "" for n in range(100)}),
    "the path": request("GET", "/" + "a" * 100 * KB),
    "with a body": request("POST", "/v1/enrollments", b"{}", X_A="a" * 100 * KB),
}
PAUSE_S = 0.2


@pytest.mark.parametrize("sent", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_complete_header_above_the_limit_is_refused(coordinator: RunningCoordinator, sent: bytes) -> None:
    with connected(coordinator.url) as connection:
        connection.sendall(sent[: 60 * KB])  # below the limit: the rest is the piece that completes the header
        time.sleep(PAUSE_S)
        connection.sendall(sent[60 * KB :])
        reply = read_reply(connection)
    assert (reply.status, reply.problem["detail"]) == (431, "the header of the request is too large")
    assert reply.headers["connection"] == "close"


def test_a_header_below_the_limit_is_read_and_each_request_is_measured_alone(coordinator: RunningCoordinator) -> None:
    large = request("GET", "/healthz", X_A="a" * (MAX_HEADER_BYTES - KB))
    assert ask(coordinator.url, large).status == 200
    with connected(coordinator.url) as connection:
        for _ in range(3):
            connection.sendall(large)
            assert read_reply(connection).status == 200


def test_a_large_body_is_no_header(coordinator: RunningCoordinator) -> None:
    sent = request("POST", "/v1/enrollments", b" " * 100 * KB, Content_Type="application/json")
    with connected(coordinator.url, sent) as connection:
        assert read_reply(connection).status == 413
