"""A coordinator that lies: encodings, endless and slow replies, numbers that no job has, redirects."""

import asyncio
import gzip
import json
import time
import tracemalloc
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from agent.configuration.settings import NetworkSettings
from agent.errors import AgentError, CoordinatorRefused, CoordinatorUnreachable, UnreadableAssignment
from agent.ledger.outbound import Chunk
from agent.network import heartbeat as beating
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat
from shared.states import BlobKind
from shared.wire.problems import MEDIA_TYPE, ProblemType
from shared.wire.tasks.leases import UploadRequest
from tests.agent.parts import OURS, SHA, a_lease, by_call, ours, prepare_assignment, problem, train_assignment
from tests.support.ledgers import api_of
from tests.support.suite.tiers import deep
from tests.unit.stub_server import Answer, Stub, reply, stub_server

RENEWED = '{"expires_at": "2030-01-01T00:00:00Z", "directive": "continue"}'


def error_of(
    answer: Answer, call: Callable[[CoordinatorApi], Any] | None = None, network: NetworkSettings | None = None
) -> AgentError:
    """The error that a call meets; by default, asking for work."""

    async def work(stub: Stub) -> None:
        api = api_of(stub.url, "secret", network=network or NetworkSettings(timeout_s=1))
        try:
            await (call(api) if call is not None else api.acquire("instance", 0))
        finally:
            await api.close()

    with stub_server(answer) as stub, pytest.raises(AgentError) as caught:
        asyncio.run(work(stub))
    return caught.value


def endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> Answer:
    """A reply that never ends, or a head that never does."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        try:
            request.wfile.write(head)
            while True:
                request.wfile.write(piece)
                time.sleep(pause_s)
        except OSError:
            return

    return answer


def head_of(status: str, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in (OURS | headers).items())]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x-gzip", "GZIP", "identity, gzip"])
@pytest.mark.parametrize("status", [201, 410])
def test_an_encoded_reply_is_refused_without_being_unpacked(encoding: str, status: int) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    tracemalloc.start()
    try:
        error = error_of(ours(status, bomb, Content_Encoding=encoding))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, CoordinatorUnreachable)
    assert f"a reply in the encoding {encoding}, which nobody asked for" in str(error)
    assert peak < 20 << 20


def test_a_reply_without_an_end_is_cut_at_its_limit() -> None:
    error = error_of(endless(head_of("201 Created"), b" " * 65536))
    assert str(error) == "the coordinator sent a reply of more than 4,194,304 bytes, which is not read"


@pytest.mark.parametrize("head", [head_of("201 Created"), b"HTTP/1.1 201 Created\r\nX: "], ids=["body", "head"])
def test_a_reply_that_comes_a_byte_at_a_time_ends_in_time(head: bytes) -> None:
    began = time.monotonic()
    network = NetworkSettings(timeout_s=1, connect_timeout_s=1)
    error = error_of(endless(head, b"x", pause_s=0.1), network=network)
    assert isinstance(error, CoordinatorUnreachable)
    assert "did not end it in time" in str(error)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        deep(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n"),
        deep(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["character", "line", "early hints"],
)
def test_a_download_whose_head_never_ends_is_given_up_in_time(head: bytes, piece: bytes) -> None:
    async def download(api: CoordinatorApi) -> None:
        async with api.download(a_lease(), SHA, 0):
            pass

    network = NetworkSettings(timeout_s=1, connect_timeout_s=1)
    began = time.monotonic()
    error = error_of(endless(head, piece, pause_s=0.1), download, network)
    assert isinstance(error, CoordinatorUnreachable)
    assert "did not end it in time" in str(error)
    assert time.monotonic() - began < 10


@pytest.mark.deep
def test_the_bytes_of_a_download_may_take_longer_than_its_head() -> None:
    body = b"0123456789" * 3

    def slow(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(head_of("200 OK", Content_Length=str(len(body))))
        for byte in body:
            request.wfile.write(bytes([byte]))
            time.sleep(0.1)

    async def work(stub: Stub) -> bytes:
        api = api_of(stub.url, "secret", network=NetworkSettings(timeout_s=1, connect_timeout_s=1))
        try:
            async with api.download(a_lease(), SHA, 0) as pieces:
                return b"".join([piece async for piece in pieces])
        finally:
            await api.close()

    with stub_server(slow) as stub:
        assert asyncio.run(work(stub)) == body


def test_a_head_without_an_end_is_refused() -> None:
    error = error_of(endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 1000 + b"\r\n"))
    assert isinstance(error, CoordinatorUnreachable)
    assert len(str(error)) < 2001


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with stub_server(ours(200, RENEWED)) as elsewhere:
        error = error_of(reply(status, Location=f"{elsewhere.url}/v1/leases", **OURS))
        assert elsewhere.seen == []
    assert isinstance(error, CoordinatorUnreachable)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"round": 0}, "round"),
        ({"round": -5}, "round"),
        ({"round": True}, "round"),
        ({"history": -1}, "history"),
        ({"history": 10**30}, "history"),
        ({"client_number": -1}, "client_number"),
        ({"n_clients": -1}, "n_clients"),
        ({"n_in_round": "many"}, "n_in_round"),
        ({"spec_sha256": "a" * 63}, "spec_sha256"),
        ({"spec_sha256": "\x1b]0;T\x07\nall is well"}, "spec_sha256"),
        ({"fingerprint": {"weights": "b" * 64}}, "fingerprint.config"),
        ({"adapter": {"sha256": "../x", "n_bytes": 1}}, "adapter.sha256"),
        ({"adapter": {"sha256": "a" * 64, "n_bytes": -1}}, "adapter.n_bytes"),
        ({"broadcast": {"sha256": "a" * 64, "n_bytes": 1e300}}, "broadcast.n_bytes"),
        ({"committed_update": "state"}, "committed_update"),
        ({"kind": "unknown"}, "kind"),
    ],
)
def test_a_task_beyond_all_bounds_is_an_error_in_words_that_can_be_reported(changes: Any, field: str) -> None:
    raw = a_lease(task=train_assignment()).model_dump(mode="json")
    raw["assignment"] |= changes
    refuses_to_read(raw, field)


@pytest.mark.parametrize(
    ("section", "changes", "field"),
    [
        (None, {"name": "x\x1b]0;T\x07\nall is well"}, "name"),
        ("algorithm", {"name": "a\nb"}, "algorithm"),
        ("algorithm", {"params": {"note": "a\x00"}}, "params"),
        ("base", {"model": "a\x9b31m"}, "base"),
        ("lora", {"rank": 10**9}, "rank"),
        ("training", {"learning_rate": -0.1}, "learning_rate"),
        ("training", {"batch_size": 0}, "training.batch_size"),
        ("training", {"batch_size": 65_537}, "training.batch_size"),
        ("training", {"max_length": 2**21}, "training.max_length"),
        ("training", {"steps": 5_000_001}, "batch size of 2"),
        ("training", {"steps": 200, "batch_size": 60_000}, "training"),
        ("retention", {"server_state": 0}, "server_state"),
    ],
)
def test_a_specification_beyond_all_bounds_is_one_too(section: str | None, changes: Any, field: str) -> None:
    raw = a_lease(task=prepare_assignment()).model_dump(mode="json")
    spec = raw["assignment"]["spec"]
    (spec if section is None else spec[section]).update(changes)
    refuses_to_read(raw, field)


def refuses_to_read(raw: dict[str, Any], field: str) -> None:
    error = error_of(ours(201, json.dumps(raw)))
    assert isinstance(error, UnreadableAssignment)
    assert (error.grant.task_id, error.grant.attempt) == ("task1", 1)
    assert field in str(error)
    assert error.failure.kind == "unreadable-assignment"
    assert "this agent cannot use the assignment as it was sent (assignment" in error.failure.message
    assert str(error).isprintable()


@pytest.mark.parametrize("rounds", [0, -1, 10**12, "7"])
def test_numbers_of_rounds_are_bounded_too(rounds: Any) -> None:
    raw = a_lease(task=prepare_assignment()).model_dump(mode="json")
    raw["assignment"]["spec"]["rounds"] = rounds
    assert isinstance(error_of(ours(201, json.dumps(raw))), UnreadableAssignment)


@pytest.mark.parametrize("every", ["0", "-1", "NaN", "Infinity", "1e308", '"soon"', "null"])
def test_an_interval_that_is_none_is_refused(every: str) -> None:
    text = a_lease().model_dump_json().replace('"renew_every_s":60.0', f'"renew_every_s":{every}')
    assert isinstance(error_of(ours(201, text)), UnreadableAssignment)


@pytest.mark.parametrize(
    "changes", [{"task_id": "../x"}, {"attempt": 0}, {"attempt": 2**63}, {"token": "a\r\nX: y"}, {"token": ""}]
)
def test_a_grant_that_cannot_be_used_is_tried_again_later(changes: Any) -> None:
    raw = a_lease().model_dump(mode="json") | changes
    error = error_of(ours(201, json.dumps(raw)))
    assert isinstance(error, CoordinatorUnreachable)
    assert next(iter(changes)) in str(error)


@pytest.mark.parametrize("expires_at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_no_clock_is_believed(expires_at: str) -> None:
    async def work(stub: Stub) -> None:
        api = api_of(stub.url, "secret")
        lease = await api.acquire("instance", 0)
        assert lease is not None
        await api.renew(lease, None)
        await api.close()

    raw = a_lease().model_dump(mode="json") | {"expires_at": expires_at}
    renewed = RENEWED.replace("2030-01-01T00:00:00Z", expires_at)
    with stub_server(by_call(POST=ours(201, json.dumps(raw)), PATCH=ours(200, renewed))) as stub:
        asyncio.run(work(stub))


def test_renewals_are_a_second_apart_whatever_the_coordinator_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beating, "_LEAST_RENEWAL_S", 0.4)

    async def work(stub: Stub) -> None:
        api = api_of(stub.url, "secret")
        task = asyncio.create_task(LeaseHeartbeat(api, "instance", a_lease(renew_every_s=1e-9)).run())
        await asyncio.sleep(1.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()

    with stub_server(ours(200, RENEWED)) as stub:
        asyncio.run(work(stub))
        assert 1 <= len(stub.seen) <= 4


@pytest.mark.parametrize("offset", ["0", "4", "6", "-5", "1e1", "9" * 5000, "٥", "5_0"])
def test_an_offset_that_is_not_the_chunks_end_is_refused(offset: str) -> None:
    answer = reply(204, **(OURS | {"Upload_Offset": offset.encode().decode("latin-1")}))
    error = error_of(answer, lambda api: api.append(a_lease(), "u1", 0, Chunk.of(b"12345")))
    assert isinstance(error, CoordinatorUnreachable)


@pytest.mark.parametrize("upload_id", ["../blobs", "a/b", "", "x" * 65])
def test_an_upload_id_leads_nowhere_else(upload_id: str) -> None:
    request = UploadRequest(purpose=BlobKind.DELTA, sha256=SHA, n_bytes=5)
    body = json.dumps({"id": upload_id, "offset": 0, "n_bytes": 5})
    error = error_of(ours(201, body), lambda api: api.start_upload(a_lease(), request))
    assert isinstance(error, CoordinatorUnreachable)


def test_a_refusals_words_stay_words() -> None:
    hostile = "\x1b]0;T\x07\x1b[2J\x9b31m\nFAKE LINE all agents are healthy\u202e"
    body = json.dumps({"type": ProblemType.FORBIDDEN.uri, "title": "No", "status": 403, "detail": hostile * 500})
    error = error_of(reply(403, body, MEDIA_TYPE, **OURS))
    assert isinstance(error, CoordinatorRefused)
    assert str(error).isprintable()
    assert len(str(error)) <= 2000


@pytest.mark.parametrize(
    ("retry_after", "pause_s"),
    [("-5", None), ("Wed, 21 Oct 2099 07:28:00 GMT", None), ("NaN", None), ("9" * 400, float("inf"))],
)
def test_a_pause_that_is_no_number_of_seconds_is_ignored(retry_after: str, pause_s: float | None) -> None:
    error = error_of(problem(503, ProblemType.UNAVAILABLE, Retry_After=retry_after))
    assert isinstance(error, CoordinatorUnreachable)
    assert error.retry_after_s == pause_s  # the pause itself has a limit of its own
