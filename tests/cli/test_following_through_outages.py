"""`campaign watch` and `campaign events --follow` go on after an outage, whichever of their requests it begins with."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from fedloom.transport import ATTEMPTS
from tests.cli.conftest import Campaign, Run
from tests.unit.stub_server import Stub, hang_up, reply, stub_server

LONG = 2 * ATTEMPTS + 1
"""Requests without an answer, too many for the repetitions of one request."""
_STREAM = "text/event-stream"


class Relay:
    """Passes requests on to a coordinator; gives no answer to some.

    outage: numbers of the requests that get none. without: part of the paths that get none, this many times.
    """

    def __init__(self, operator_url: str) -> None:
        self.target, self.n, self.unanswered = operator_url, 0, 0
        self.outage = range(0)
        self.without: tuple[str, int] | None = None

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        self.n += 1
        is_stream = request.headers["Accept"] == _STREAM
        if self.n in self.outage or (not is_stream and self._takes(request.path)):
            self.unanswered += 1
            hang_up(request)
            return
        headers = {name: request.headers[name] for name in ("Authorization", "Fedloom-Protocol", "Accept")}
        if is_stream and request.path.startswith("/v1/events"):
            self._feed(request, headers)
            return
        got = httpx.get(self.target + request.path, headers=headers, timeout=30)
        reply(got.status_code, got.content, got.headers["Content-Type"])(request)

    def _takes(self, path: str) -> bool:
        if self.without is None or self.without[0] not in path or self.without[1] == 0:
            return False
        self.without = self.without[0], self.without[1] - 1
        return True

    def _feed(self, request: BaseHTTPRequestHandler, headers: dict[str, str]) -> None:
        """The events of all campaigns so far, as a stream; the second time a refusal, so that the command ends."""
        if request.headers["Last-Event-ID"] != "0":
            request.headers.replace_header("Authorization", "Bearer unknown")
            headers = {**headers, "Authorization": "Bearer unknown"}
        got = httpx.get(f"{self.target}/v1/events", headers={**headers, "Accept": "application/json"}, timeout=30)
        if got.status_code != 200:
            reply(got.status_code, got.content, got.headers["Content-Type"])(request)
            return
        events = "".join(f"data: {json.dumps(each)}\n\n" for each in got.json()["items"])
        reply(200, events, _STREAM)(request)


@pytest.fixture
def relay(finished: Campaign, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Relay, Stub]]:
    """A relay before the coordinator of ``finished``; commands use it."""
    relay = Relay(str(finished.operator.http.base_url).rstrip("/"))
    with stub_server(relay) as stub:
        monkeypatch.setenv("FEDLOOM_URL", stub.url)
        yield relay, stub


def _plain(drawn: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


@pytest.mark.parametrize(
    ("form", "moment"), [*(("lines", moment) for moment in range(2, 7)), ("json", 4), ("terminal", 2), ("terminal", 6)]
)
def test_watch_goes_on_after_an_outage_at_any_of_its_requests(
    run: Run, relay: tuple[Relay, Stub], monkeypatch: pytest.MonkeyPatch, form: str, moment: int
) -> None:
    passing, _ = relay
    if form == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")
    command = ("campaign", "watch", "small", *(["--json"] if form == "json" else []))
    undisturbed = run(*command)
    passing.n, passing.outage = 0, range(moment, moment + LONG)
    ran = run(*command)
    assert passing.unanswered == LONG
    assert (ran.code, ran.err) == (0, "")
    if form == "terminal":
        assert "waiting for the coordinator: " in _plain(ran.out)
        assert _plain(ran.out).endswith(_plain(undisturbed.out)[-500:])
    else:
        assert ran.out == undisturbed.out


def test_watch_gives_up_after_a_long_outage(
    run: Run, relay: tuple[Relay, Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    passing, _ = relay
    monkeypatch.setattr("fedloom.cli.campaign.watch.OUTAGE_S", 0.0)
    passing.outage = range(6, 1000)
    assert run("campaign", "watch", "small").code == 3


def test_followed_events_have_ids_for_names_that_an_outage_hides(run: Run, relay: tuple[Relay, Stub]) -> None:
    passing, _ = relay
    names = [line for line in run("campaign", "events").out.splitlines() if "agent=" in line]
    passing.without = ("/v1/campaigns/", 2 * ATTEMPTS)
    ran = run("campaign", "events", "--follow")
    assert passing.unanswered == 2 * ATTEMPTS
    assert ran.code == 4  # the end of the stream; the outage is none
    lines = ran.out.splitlines()
    assert lines[-1].startswith("small: ")
    assert [line for line in lines if "agent=" in line][-1] == names[-1]
    assert lines[0].split() == run("campaign", "events").out.splitlines()[0].split()


def test_events_that_are_not_followed_end_with_an_outage(run: Run, relay: tuple[Relay, Stub]) -> None:
    passing, _ = relay
    passing.without = ("/v1/campaigns/", ATTEMPTS)
    ran = run("campaign", "events")
    assert ran.code == 3
    assert ran.out == ""
