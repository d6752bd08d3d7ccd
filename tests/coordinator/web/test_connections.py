"""Limits of connections: those without a valid key make room, and never at the expense of others."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from coordinator.settings import LimitSettings, Settings
from coordinator.web.limits.connections import Connection, Connections
from tests.support.operator import Operator
from tests.support.raw_http import ask, connected, is_closed, read_reply, request
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator, quick_settings

Enroll = Callable[..., ScriptedAgent]
MOST = 20
PER_ADDRESS = 2


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return partial(quick_settings, limits=LimitSettings(connections=MOST, connections_per_address=PER_ADDRESS))


class Table:
    """Connections, and which of them were closed."""

    def __init__(self, most: int = 100, most_of_address: int = 100, proxies: tuple[str, ...] = ()) -> None:
        self.closed: list[str] = []
        self.all = Connections(most, most_of_address, proxies.__contains__, grace_s=10)

    def add(self, name: str, address: str = "a", age_s: float = 0.0) -> Connection:
        added = self.all.add(address, lambda: self.closed.append(name))
        assert added is not None
        added.opened_at -= age_s
        return added


def test_the_oldest_without_a_key_makes_room() -> None:
    table = Table(most=3)
    keyed = table.add("keyed")
    keyed.note_key()
    for name in ("b", "c", "d", "e"):
        table.add(name, address=name)
    assert (table.closed, len(table.all)) == (["b", "c"], 3)


def test_the_log_says_once_that_connections_become_few_and_once_that_there_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = Table(most=10)
    for number in range(8):
        table.add(str(number)).note_key()
    assert caplog.messages == []
    for number in (8, 9):
        table.add(str(number)).note_key()
    assert [table.all.add("a", table.closed.clear) for _ in range(3)] == [None] * 3
    remedy = "raise limits.connections, and the limit of open files (ulimit -n, LimitNOFILE) with it"
    assert caplog.messages == [
        f"nearly all of the 10 connections that may be open are; {remedy}",
        f"all 10 connections that may be open have a request in progress: new ones are refused; {remedy}",
    ]


def test_an_idle_connection_with_a_key_makes_room_last_and_a_busy_one_never() -> None:
    table = Table(most=2)
    busy, idle = table.add("busy"), table.add("idle")
    for each in (busy, idle):
        each.note_key()
    idle.ends()
    table.add("new")
    assert table.closed == ["idle"]
    table.add("newer")
    assert table.closed == ["idle", "new"]
    busy.ends()
    busy.begins()
    table.add("newest").note_key()
    assert table.all.add("z", lambda: None) is None
    assert table.closed == ["idle", "new", "newer"]


def test_an_address_keeps_its_newest_connections_once_the_old_had_their_time() -> None:
    table = Table(most_of_address=2)
    for name in ("a1", "a2", "a3"):
        table.add(name, age_s=30)
    assert table.closed == ["a1"]
    table.add("b1", address="b")
    table.add("a4")
    assert table.closed == ["a1", "a2"]
    table = Table(most_of_address=2)
    for name in ("a1", "a2", "a3"):
        table.add(name)
    assert table.closed == [], "a thousand agents that come back together"


def test_who_waits_for_an_answer_makes_no_room_for_another_of_the_address() -> None:
    table = Table(most_of_address=2)
    asks = table.add("asks", age_s=30)
    asks.begins()
    asks.asks()
    answered = table.add("answered", age_s=30)
    answered.begins()
    answered.asks()
    answered.ends()
    table.add("new")
    assert table.closed == ["answered"]


def test_who_sends_a_body_waits_for_no_answer_yet() -> None:
    table = Table(most_of_address=2)
    for name in ("sends", "sends too"):
        table.add(name, age_s=30).begins()
    table.add("new")
    assert table.closed == ["sends"]


def test_an_address_has_eight_times_its_connections_at_most_whatever_they_do() -> None:
    table = Table(most_of_address=2)
    for number in range(20):
        added = table.add(str(number))
        if number % 3:
            added.begins()
        if number % 2:
            added.asks()
    assert table.closed == ["0", "1", "2", "3"]
    table.add("elsewhere", address="b")
    assert len(table.closed) == 4


def test_half_sent_bodies_of_an_address_are_limited(coordinator: RunningCoordinator) -> None:
    short = request("POST", "/v1/enrollments", b"{" + b" " * 3999, Content_Type="application/json")[:-3999]
    with ExitStack() as stack:
        stuck = [stack.enter_context(connected(coordinator.url, short)) for _ in range(PER_ADDRESS * 8 + 10)]
        assert all(is_closed(each) for each in stuck[:10])
        assert ask(coordinator.url, request("GET", "/healthz")).status == 200


def test_connections_with_a_key_and_those_of_a_proxy_do_not_count_for_an_address() -> None:
    table = Table(most_of_address=1, proxies=("proxy",))
    for number in range(5):
        table.add(f"keyed {number}", age_s=30).note_key()
        table.add(f"proxied {number}", address="proxy", age_s=30)
    assert table.closed == []


def test_nothing_is_remembered_of_closed_connections() -> None:
    table = Table(most=5, most_of_address=2)
    for number in range(1000):
        added = table.add("x", address=str(number % 50), age_s=5 * (number % 7))
        if number % 3:
            added.note_key()
        added.ends()
        if number % 2:
            table.all.remove(added)
            table.all.remove(added)
            added.note_key()
            added.ends()
    for each in list(table.all._open):
        table.all.remove(each)
    assert not any((table.all._open, table.all._unknown, table.all._idle, table.all._unknown_of))


def test_a_caller_with_a_key_gets_in_when_all_connections_are_taken(
    coordinator: RunningCoordinator, operator: Operator
) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(coordinator.url)) for _ in range(3 * MOST)]
        began = time.monotonic()
        assert operator.http.get("/v1/campaigns").status_code == 200
        assert time.monotonic() - began < 5
        assert all(is_closed(each) for each in silent[:MOST])
    assert operator.http.get("/v1/campaigns").status_code == 200


def test_if_all_are_busy_a_further_one_is_told_so(coordinator: RunningCoordinator, enroll: Enroll) -> None:
    headers = {"Content_Type": "application/json", "Prefer": "wait=20"}
    body = b'{"instance_id": "12345678", "version": "1"}'
    with ExitStack() as stack:
        busy = []
        for number in range(MOST // 4):
            secret = enroll(f"agent-{number}").identity["secret"]
            for _ in range(4):
                sent = request("POST", "/v1/leases", body, Authorization=f"Bearer {secret}", **headers)
                busy.append(stack.enter_context(connected(coordinator.url, sent)))
                time.sleep(0.02)
        time.sleep(0.5)
        reply = ask(coordinator.url, request("GET", "/healthz"))
        assert (reply.status, reply.problem["retryable"]) == (503, True)
        assert reply.headers["retry-after"] == "5"
        assert reply.problem["detail"] == "too many connections are open; try again later"
        coordinator.loop.call_soon_threadsafe(coordinator.services.notifiers.close)
        assert [read_reply(each).status for each in busy] == [204] * MOST
