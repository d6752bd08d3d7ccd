"""Many requests in one piece: a few are answered, as HTTP allows, and a connection that sends more is closed."""

import re
import socket
import time

import pytest

from coordinator.web.limits.protocol import MAX_WAITING
from tests.support.raw_http import ask, connected, is_closed, read_reply, request
from tests.support.server import RunningCoordinator

HEALTH = request("GET", "/healthz")


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.mark.parametrize("sent", [b"GET /x HTTP/1.1\r\n\r\n", HEALTH, request("POST", "/v1/enrollments", b"{}")])
def test_thousands_of_requests_in_one_piece_are_refused_in_words_and_keep_nobody_waiting(
    coordinator: RunningCoordinator, sent: bytes
) -> None:
    with connected(coordinator.url, sent * 13_000) as first, connected(coordinator.url, sent * 13_000) as second:
        began = time.monotonic()
        assert ask(coordinator.url, HEALTH).status == 200
        assert time.monotonic() - began < 1
        for each in (first, second):
            try:
                received = read_all(each)
            except ConnectionResetError:  # what was not read is thrown away
                continue
            assert 1 <= len(re.findall(rb"HTTP/1\.1 \d", received)) <= MAX_WAITING + 2
            assert b"too many requests wait on this connection; send the next one after the answer" in received
    assert ask(coordinator.url, HEALTH).status == 200


def test_one_more_than_may_wait_is_refused(coordinator: RunningCoordinator) -> None:
    with connected(coordinator.url, HEALTH * (MAX_WAITING + 2)) as connection:
        reply = read_reply(connection)
        assert reply.status == 400
        assert reply.problem["detail"].startswith("too many requests wait on this connection")
        assert is_closed(connection)


def test_as_many_as_may_wait_are_answered_in_their_order(coordinator: RunningCoordinator) -> None:
    last = request("GET", "/nothing", Connection="close")
    with connected(coordinator.url, HEALTH * MAX_WAITING + last) as connection:
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", read_all(connection))
    assert statuses == [b"200"] * MAX_WAITING + [b"404"]
