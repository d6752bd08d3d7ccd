"""The SDK's client against a misbehaving server: retries, errors, downloads, event streams."""

import json
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fedloom import Client, errors
from fedloom.adapters.download import download_blob
from fedloom.transport import ATTEMPTS, Transport
from shared.digest import sha256_hex
from shared.events import EventType
from shared.states import AgentState, CampaignState
from shared.wire.base import PROTOCOL, BlobRef
from shared.wire.problems import MEDIA_TYPE, ProblemType
from tests.unit.stub_server import Answer, cut_after, hang_up, reply, stub_server

STORAGE = reply(200, '{"n_blobs": 1, "n_bytes": 2, "bytes_by_kind": {"adapter": 2}, "free_bytes": null, "new": 1}')
SPEC = {"name": "c", "base": {"model": "m"}, "training": {"steps": 1}, "data": {"name": "d"}, "rounds": 2}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedloom.transport.BACKOFF_S", 0.001)
    for name in ("FEDLOOM_URL", "FEDLOOM_KEY"):
        monkeypatch.delenv(name, raising=False)


def problem(status: int, kind: ProblemType, **more: Any) -> Answer:
    body = {"type": kind.uri, "title": "No", "status": status, "detail": "because", **more}
    return reply(status, json.dumps(body), MEDIA_TYPE)


def campaign(state: str = "running", **more: Any) -> Answer:
    body = {
        "id": "1", "name": "c", "state": state, "reason": None, "rounds_closed": 1, "rounds": 2,
        "created_at": "2026-01-01T00:00:00Z", "ended_at": None, "final_adapter": None, "best_adapter": None,
        "spec": SPEC, "spec_sha256": "a" * 64, "participants": [], "metrics": [], **more,
    }  # fmt: skip
    return reply(200, json.dumps(body))


SSE = "text/event-stream"


def event(number: int) -> str:
    body = {"number": number, "at": "2026-01-01T00:00:00Z", "type": "task-done", "data": {}}
    return f"id: {number}\nevent: task-done\ndata: {json.dumps(body)}\n\n"


def stream(*numbers: int) -> Answer:
    return reply(200, ": hello\n\n" + "".join(map(event, numbers)), "text/event-stream")


# --- URL, key and TLS


def test_url_and_key_come_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Client().url == "http://127.0.0.1:8470"
    with stub_server(STORAGE) as stub:
        monkeypatch.setenv("FEDLOOM_URL", stub.url + "/")
        monkeypatch.setenv("FEDLOOM_KEY", "from-environment")
        with Client() as client:
            assert client.storage().n_bytes == 2
        with Client(key="given") as client:
            client.storage()
    keys = [headers["authorization"] for _, _, headers in stub.seen]
    assert keys == ["Bearer from-environment", "Bearer given"]
    assert stub.seen[0][1] == "/v1/storage"
    assert stub.seen[0][2]["fedloom-protocol"] == PROTOCOL


def test_a_missing_ca_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client("https://example.org", ca_file=tmp_path / "none.pem")


def test_a_private_ca_is_trusted_if_it_is_named(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    with stub_server(STORAGE, tls=tls) as stub:
        with Client(stub.url, ca_file=tmp_path / "ca.pem") as client:
            assert client.storage().n_bytes == 2
        with Client(stub.url) as client, pytest.raises(errors.Unreachable, match="its certificate is not trusted"):
            client.storage()


# --- retries


@pytest.mark.parametrize("failure", [hang_up, reply(502, "<html>bad gateway</html>", "text/html"), reply(429, "{}")])
def test_reading_is_tried_again(failure: Answer) -> None:
    with stub_server(failure, failure, STORAGE) as stub, Client(stub.url) as client:
        assert client.storage().n_blobs == 1
    assert len(stub.seen) == 3


def test_retries_are_limited() -> None:
    with (
        stub_server(problem(503, ProblemType.UNAVAILABLE)) as stub,
        Client(stub.url) as client,
        pytest.raises(errors.Refused, match="because"),
    ):
        client.storage()
    assert len(stub.seen) == ATTEMPTS


def test_a_move_whose_reply_was_lost_is_not_repeated() -> None:
    with stub_server(hang_up) as stub, Client(stub.url) as client, pytest.raises(errors.Unreachable):
        client.pause("1")
    assert len(stub.seen) == 1


def test_a_move_that_was_turned_away_is_repeated() -> None:
    with stub_server(reply(429, "{}"), campaign("paused")) as stub, Client(stub.url) as client:
        assert client.pause("1").state == "paused"


def test_creating_is_repeated_under_one_idempotency_key() -> None:
    with stub_server(hang_up, reply(500, "oops"), campaign()) as stub, Client(stub.url) as client:
        client.create_campaign(SPEC)
        client.create_campaign(SPEC)
        client.create_campaign(SPEC, idempotency_key="mine")
    keys = [headers["idempotency-key"] for _, _, headers in stub.seen]
    assert keys[0] == keys[1] == keys[2]
    assert len({keys[2], keys[3], keys[4]}) == 3
    assert keys[4] == "mine"


def test_a_campaign_that_is_wrong_is_not_sent() -> None:
    with stub_server(campaign()) as stub, Client(stub.url) as client, pytest.raises(ValidationError):
        client.create_campaign({**SPEC, "rounds": 0})
    assert not stub.seen


def test_a_refused_connection_is_reported() -> None:
    with stub_server(STORAGE) as stub:
        pass
    with Client(stub.url) as client, pytest.raises(errors.Unreachable, match="cannot connect"):
        client.storage()


# --- errors


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, ProblemType.UNAUTHENTICATED, errors.Unauthenticated),
        (403, ProblemType.FORBIDDEN, errors.Forbidden),
        (404, ProblemType.NOT_FOUND, errors.NotFound),
        (409, ProblemType.ILLEGAL_MOVE, errors.IllegalMove),
        (409, ProblemType.CONFLICT, errors.Conflict),
        (422, ProblemType.INVALID, errors.Invalid),
        (413, ProblemType.TOO_LARGE, errors.Refused),
    ],
)
def test_problems_become_errors_by_their_type(status: int, kind: ProblemType, error: type[errors.Refused]) -> None:
    answer = problem(status, kind, errors=[{"field": "rounds", "message": "too many"}])
    with stub_server(answer) as stub, Client(stub.url, "flo_key") as client, pytest.raises(errors.Refused) as caught:
        client.campaign("1")
    assert type(caught.value) is error
    assert caught.value.problem.status == status
    assert str(caught.value) == "because"
    if isinstance(caught.value, errors.Invalid):
        assert caught.value.errors[0].field == "rounds"
    assert len(stub.seen) == 1


def test_a_missing_key_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLOOM_KEY", raising=False)
    answer = problem(401, ProblemType.UNAUTHENTICATED)
    with stub_server(answer) as stub, Client(stub.url) as client, pytest.raises(errors.MissingKey) as caught:
        client.campaign("1")
    assert isinstance(caught.value, errors.Unauthenticated)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reply(404, "not here", "text/html"), r"the reply \(404 Not Found\) does not come from a coordinator"),
        (reply(200, "<html>log in</html>", "text/html"), "the reply does not come from a coordinator"),
        (reply(302, "", Location="https://elsewhere"), "the reply \\(302"),
        (reply(422, '{"type": 3}', MEDIA_TYPE), "the reply does not come from a coordinator"),
    ],
)
def test_a_reply_that_is_not_a_coordinators_is_reported(answer: Answer, says: str) -> None:
    with stub_server(answer) as stub, Client(stub.url) as client, pytest.raises(errors.Unreachable, match=says):
        client.storage()


def test_a_coordinator_that_is_not_ready_says_why() -> None:
    body = '{"status": "unavailable", "version": "1", "reason": "the database"}'
    with stub_server(reply(503, body)) as stub, Client(stub.url) as client:
        assert client.health().reason == "the database"
    assert len(stub.seen) == 1


# --- listings


def test_listings_ask_for_page_after_page_and_only_as_they_are_read() -> None:
    def page(items: list[str], cursor: str | None) -> Answer:
        agents = [
            {"id": name, "name": name, "labels": {}, "state": "active", "version": "1",
             "created_at": "2026-01-01T00:00:00Z", "last_seen_at": None}
            for name in items
        ]  # fmt: skip
        return reply(200, json.dumps({"items": agents, "next_cursor": cursor}))

    with stub_server(page(["a", "b"], "b"), page(["c"], None)) as stub, Client(stub.url) as client:
        agents = client.agents()
        assert [next(agents).id, next(agents).id] == ["a", "b"]
        assert len(stub.seen) == 1
        assert [agent.id for agent in agents] == ["c"]
    assert "cursor=b" in stub.seen[1][1]


def test_filters_are_sent_as_the_coordinator_reads_them() -> None:
    hour = timezone(timedelta(hours=1))
    with stub_server(reply(200, '{"items": [], "next_cursor": null}')) as stub, Client(stub.url) as client:
        list(client.campaigns(state=CampaignState.RUNNING, since=datetime(2026, 1, 31, 12, tzinfo=hour)))
        list(client.agents(state=AgentState.ACTIVE, labels={"site": "north", "ward": "7&8"}))
        list(client.all_events(follow=False, types=[EventType.ROUND_CLOSED, EventType.ROUND_OPENED]))
        with pytest.raises(ValueError, match="the time has no zone"):
            client.tokens(until=datetime(2026, 1, 31))  # noqa: DTZ001
    asked = [path.partition("?")[2] for _, path, _ in stub.seen]
    assert asked == [
        "limit=500&state=running&since=2026-01-31T11%3A00%3A00%2B00%3A00",
        "limit=500&state=active&label=site%3Dnorth&label=ward%3D7%268",
        "after=0&type=round-closed&type=round-opened",
    ]


def test_ids_are_quoted() -> None:
    with stub_server(campaign()) as stub, Client(stub.url) as client:
        client.campaign("a..%2Fb?c#d")
    assert stub.seen[0][1] == "/v1/campaigns/a..%252Fb%3Fc%23d"


# --- waiting


def test_wait_returns_at_the_end_and_sits_out_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedloom.client.LONGEST_POLL_S", 0.001)
    answers = [campaign(), *[hang_up] * ATTEMPTS, campaign(), campaign("completed")]
    with stub_server(*answers) as stub, Client(stub.url) as client:
        assert client.wait("1").state == "completed"


def test_wait_returns_when_paused() -> None:
    with stub_server(campaign("paused")) as stub, Client(stub.url) as client:
        assert client.wait("1").state == "paused"


def test_wait_gives_up_in_time() -> None:
    with (
        stub_server(campaign()) as stub,
        Client(stub.url) as client,
        pytest.raises(errors.WaitTimeout, match="it continues") as caught,
    ):
        client.wait("1", timeout_s=0.05)
    assert isinstance(caught.value, TimeoutError)


# --- verifications


def verification(state: str, n_done: int, *rounds: int) -> Answer:
    outcomes = [{"round": number, "outcome": "verified", "adapter_sha256": "0" * 64} for number in rounds]
    body = {
        "id": "7", "campaign_id": "1", "state": state, "reason": None, "n_rounds": 3, "n_done": n_done,
        "created_at": "2026-01-01T00:00:00Z", "ended_at": None, "outcomes": outcomes,
    }  # fmt: skip
    return reply(200 if rounds else 202, json.dumps(body))


def test_verify_posts_once_polls_and_sits_out_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("fedloom.verifications.time.sleep", pauses.append)
    outage = [hang_up] * ATTEMPTS + [reply(502, "<html>bad gateway</html>", "text/html")] * ATTEMPTS
    answers = [
        *(hang_up, verification("pending", 0)),  # repeats the request whose reply a proxy cut
        *(verification("running", 1, 0), *outage, verification("running", 1), verification("done", 3, 1, 2)),
    ]
    seen: list[tuple[int, list[int]]] = []
    with stub_server(*answers) as stub, Client(stub.url) as client:
        job = client.verify(
            "1",
            on_progress=lambda job: seen.append((job.n_done, [outcome.round for outcome in job.outcomes])),
        )
    assert job.state == "done"
    assert [outcome.round for outcome in job.outcomes] == [0, 1, 2]
    assert seen == [(1, [0]), (1, []), (3, [1, 2])]
    asked = [(method, path.partition("&")[0]) for method, path, _ in stub.seen]
    path = "/v1/campaigns/1/verifications"
    assert asked[:2] == [("POST", path)] * 2
    assert set(asked[2:]) == {("GET", f"{path}/7?after=-1"), ("GET", f"{path}/7?after=0")}
    polls = [pause for pause in pauses if pause >= 0.1]
    assert polls == sorted(polls)
    assert len(polls) == 4


def test_verify_gives_up_after_a_long_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedloom.verifications.OUTAGE_S", 0.0)
    answers = [verification("pending", 0), hang_up]
    with stub_server(*answers) as stub, Client(stub.url) as client, pytest.raises(errors.Unreachable):
        client.verify("1", [2])


# --- events


@pytest.mark.parametrize("endless", ["data: " + "x" * (5 << 20), "data: y\n" * (1 << 20)])
def test_an_event_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch, endless: str) -> None:
    monkeypatch.setattr("fedloom.event_stream.ATTEMPTS", 1)
    monkeypatch.setattr("fedloom.event_stream.OUTAGE_S", 0.0)
    stubbed = stub_server(campaign(), reply(200, event(1) + endless, SSE))
    with stubbed as stub, Client(stub.url, "flo_key") as client:
        events = client.events("1")
        assert next(events).number == 1
        with pytest.raises(errors.Unreachable, match=r"sent an event of more than 4,194,304 characters"):
            next(events)


def test_events_continue_after_the_last_one_received() -> None:
    whole = (": hello\n\n" + event(1) + event(2) + event(3)).encode()
    broken = cut_after(200, whole, len(whole) - 10, "text/event-stream")
    answers = [
        campaign(),
        broken,
        stream(3, 4),
        campaign("completed"),
        reply(200, '{"items": [], "next_cursor": null}'),
    ]
    with stub_server(*answers) as stub, Client(stub.url) as client:
        assert [event.number for event in client.events("1")] == [1, 2, 3, 4]
    assert [headers.get("last-event-id") for _, _, headers in stub.seen] == [None, "0", "2", None, None]


def test_a_stream_that_ends_before_the_campaign_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedloom.event_stream.REOPEN_S", 0.01)
    last = reply(200, json.dumps({"items": [json.loads(event(3).split("data: ")[1])], "next_cursor": None}))
    answers = [campaign(), stream(1), campaign(), stream(2), campaign("completed"), last]
    with stub_server(*answers) as stub, Client(stub.url) as client:
        assert [event.number for event in client.events("1")] == [1, 2, 3]
    assert "after=2" in stub.seen[-1][1]


def test_the_feed_of_all_campaigns_is_opened_again_after_the_last_position(monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(*positions: int) -> Answer:
        body = {
            "number": 1,
            "at": "2026-01-01T00:00:00Z",
            "type": "x",
            "data": {},
            "campaign_id": "c",
            "campaign_name": "n",
        }
        return reply(200, "".join(f"data: {json.dumps({**body, 'position': each})}\n\n" for each in positions), SSE)

    monkeypatch.setattr("fedloom.event_stream.REOPEN_S", 0.01)
    with stub_server(feed(8, 9), hang_up, feed(10)) as stub, Client(stub.url) as client:
        events = client.all_events(7, types=[EventType.TASK_DONE])
        assert [next(events).position for _ in range(3)] == [8, 9, 10]
    assert [headers["last-event-id"] for _, _, headers in stub.seen] == ["7", "9", "9"]
    assert {path for _, path, _ in stub.seen} == {"/v1/events?type=task-done"}


def test_events_of_a_missing_campaign() -> None:
    with (
        stub_server(problem(404, ProblemType.NOT_FOUND)) as stub,
        Client(stub.url) as client,
        pytest.raises(errors.NotFound),
    ):
        next(client.events("1"))


# --- downloads

DATA = bytes(range(256)) * 40
BLOB = BlobRef(sha256=sha256_hex(DATA), n_bytes=len(DATA))


def download(path: Path, *answers: Answer) -> list[str | None]:
    """Download DATA to a file. Returns the Range header of each request, None without one."""
    with stub_server(*answers) as stub:
        transport = Transport(stub.url, None, ca_file=None, insecure=False, timeout_s=5)
        try:
            download_blob(transport, BLOB, path)
        finally:
            transport.close()
    return [headers.get("range") for _, _, headers in stub.seen]


def test_a_cut_download_resumes_at_the_last_byte_received(tmp_path: Path) -> None:
    answers = [cut_after(200, DATA, 3000), hang_up, cut_after(206, DATA[3000:], 2000), reply(206, DATA[5000:])]
    assert download(tmp_path / "a", *answers) == [None, "bytes=3000-", "bytes=3000-", "bytes=5000-"]
    assert (tmp_path / "a").read_bytes() == DATA


def test_a_download_without_ranges_starts_again(tmp_path: Path) -> None:
    download(tmp_path / "a", cut_after(200, DATA, 3000), reply(200, DATA))
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize("wrong", [DATA[:-1] + b"x", DATA + b"x"])
def test_other_bytes_are_refused(tmp_path: Path, wrong: bytes) -> None:
    with pytest.raises(errors.CorruptDownload):
        download(tmp_path / "a", reply(200, wrong))


def test_a_download_without_progress_ends(tmp_path: Path) -> None:
    with pytest.raises(errors.Unreachable):
        download(tmp_path / "a", hang_up)
    with pytest.raises(errors.Unreachable, match="ended after 5 of"):
        download(tmp_path / "a", reply(200, DATA[:5]), reply(206, b""))
