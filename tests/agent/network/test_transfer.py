"""Downloads and uploads over connections that break, and a cache whose files have changed."""

import asyncio
import errno
import os
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.errors import CoordinatorRefused, TransferCorrupted
from agent.network import chunk_size, retry
from agent.network.api import CoordinatorApi
from agent.network.chunk_size import ChunkSize
from agent.network.heartbeat import LeaseHeartbeat
from agent.network.transfer import AdapterCache, upload
from shared.digest import content_digest_of, sha256_hex
from shared.states import BlobKind
from shared.wire.base import CHUNK_BYTES, BlobRef
from shared.wire.problems import ProblemType
from tests.agent.parts import OURS, a_lease, by_call, in_turn, ours, problem
from tests.support.ledgers import api_of
from tests.unit.stub_server import Answer, Stub, hang_up, reply, stub_server

DATA = bytes(range(256)) * 64
REF = BlobRef(sha256=sha256_hex(DATA), n_bytes=len(DATA))


def blob(request: BaseHTTPRequestHandler) -> None:
    """Answer with the blob from the requested offset on."""
    start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    ours(206 if start else 200, DATA[start:])(request)


def broken_off(n_bytes: int, *, sends_length: bool) -> Answer:
    """Answers with the blob's first bytes and then closes the connection."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in OURS.items():
            request.send_header(name, value)
        request.send_header(*(("Content-Length", str(len(DATA))) if sends_length else ("Connection", "close")))
        request.end_headers()
        request.wfile.write(DATA[:n_bytes])
        request.close_connection = True

    return answer


def with_heartbeat(stub: Stub, work: Callable[[CoordinatorApi, LeaseHeartbeat], Awaitable[object]]) -> None:
    async def main() -> None:
        api = api_of(stub.url, "secret")
        await work(api, LeaseHeartbeat(api, "instance", a_lease()))
        await api.close()

    asyncio.run(main())


def fetch(stub: Stub, folder: Path) -> None:
    with_heartbeat(stub, lambda api, heartbeat: AdapterCache(folder, 1 << 20).fetch(api, heartbeat, REF))


def ranges(stub: Stub) -> list[str | None]:
    return [headers.get("range") for method, _, headers in stub.seen if method == "GET"]


@pytest.mark.parametrize("sends_length", [True, False])
def test_a_download_resumes_where_it_broke_off(tmp_path: Path, sends_length: bool) -> None:
    page = reply(502, "<html>", "text/html")
    with stub_server(in_turn(broken_off(5000, sends_length=sends_length), page, hang_up, blob)) as stub:
        fetch(stub, tmp_path)
        assert ranges(stub) == [None, "bytes=5000-", "bytes=5000-", "bytes=5000-"]
    assert [path.name for path in tmp_path.iterdir()] == [REF.sha256]


def test_a_download_that_makes_progress_waits_only_briefly_between_tries(tmp_path: Path) -> None:
    def a_thousand_bytes(request: BaseHTTPRequestHandler) -> None:
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        ours(206 if start else 200, DATA[start:][:1000])(request)

    began = time.monotonic()
    with stub_server(a_thousand_bytes) as stub:
        fetch(stub, tmp_path)
        assert len(stub.seen) == 17
    assert time.monotonic() - began < 60  # as many pauses, each twice as long as the last, would take minutes
    assert (tmp_path / REF.sha256).read_bytes() == DATA


@pytest.mark.parametrize("part", [b"x" * 5000, b"x" * 20_000], ids=["short", "longer than the blob"])
def test_a_corrupt_part_is_thrown_away_and_the_next_try_is_whole(tmp_path: Path, part: bytes) -> None:
    (tmp_path / f"{REF.sha256}.part").write_bytes(part)
    with stub_server(blob) as stub:
        fetch(stub, tmp_path)
        assert ranges(stub)[-1] is None
    assert (tmp_path / REF.sha256).read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == [REF.sha256]


def test_a_blob_that_never_has_its_digest_is_given_up_after_three_downloads(tmp_path: Path) -> None:
    rotten = b"x" + DATA[1:]
    with stub_server(ours(200, rotten)) as stub:
        with pytest.raises(TransferCorrupted, match=f"{REF.sha256} does not match its digest.*{sha256_hex(rotten)}"):
            fetch(stub, tmp_path)
        assert ranges(stub) == [None] * 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_ends_the_download_and_a_later_one_succeeds(tmp_path: Path) -> None:
    part = tmp_path / f"{REF.sha256}.part"
    part.symlink_to("/dev/full")  # every write to it fails as on a full disk
    with stub_server(in_turn(blob, broken_off(5000, sends_length=True), blob)) as stub:
        with pytest.raises(OSError, match="No space left") as caught:
            fetch(stub, tmp_path)
        assert caught.value.errno == errno.ENOSPC
        part.unlink()
        fetch(stub, tmp_path)
        assert ranges(stub) == [None, None, "bytes=5000-"]
    assert (tmp_path / REF.sha256).read_bytes() == DATA


def test_a_cached_blob_is_used_unless_its_bytes_have_changed(tmp_path: Path) -> None:
    with stub_server(blob) as stub:
        for _ in range(2):
            fetch(stub, tmp_path)
        assert len(stub.seen) == 1
        (tmp_path / REF.sha256).write_bytes(b"")
        fetch(stub, tmp_path)
    assert (tmp_path / REF.sha256).read_bytes() == DATA


def test_a_lease_lost_during_a_download_is_reacquired_and_the_download_resumes(tmp_path: Path) -> None:
    closed = problem(403, ProblemType.FORBIDDEN)
    answers = by_call(
        GET=in_turn(broken_off(5000, sends_length=True), closed, blob),
        PATCH=problem(410, ProblemType.LEASE_LOST),
        POST=ours(201, a_lease(2).model_dump_json()),
    )
    with stub_server(answers) as stub:
        fetch(stub, tmp_path)
        assert ranges(stub) == [None, "bytes=5000-", "bytes=5000-"]


def test_a_blob_that_stays_closed_to_a_live_lease_is_refused_once(tmp_path: Path) -> None:
    renewed = ours(200, '{"expires_at": "2030-01-01T00:00:00Z", "directive": "continue"}')
    with stub_server(by_call(GET=problem(403, ProblemType.FORBIDDEN), PATCH=renewed)) as stub:
        with pytest.raises(CoordinatorRefused, match="forbidden"):
            fetch(stub, tmp_path)
        assert [method for method, _, _ in stub.seen] == ["GET", "PATCH"]


def test_the_least_recently_used_are_evicted_but_nothing_in_use(tmp_path: Path) -> None:
    names = ["adapter", "old", "newer", "broadcast"]
    for second, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (second, second))
    cache = AdapterCache(tmp_path, 30)
    cache.evict(keep=(tmp_path / "adapter", tmp_path / "broadcast"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "broadcast", "newer"]
    AdapterCache(tmp_path, 0).evict(keep=(tmp_path / "adapter", tmp_path / "broadcast", None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "broadcast"]


def started(offset: int) -> Answer:
    return ours(201, f'{{"id": "u1", "offset": {offset}, "n_bytes": {len(DATA)}}}')


def begun(request: BaseHTTPRequestHandler) -> None:
    """Answer as if the first chunk had been stored."""
    started(int(request.headers["Content-Length"]))(request)


def stored(request: BaseHTTPRequestHandler) -> None:
    """Answer as if the chunk had been stored."""
    end = int(request.headers["Upload-Offset"]) + int(request.headers["Content-Length"])
    ours(204, Upload_Offset=str(end))(request)


def chunks_seen(stub: Stub) -> list[tuple[int, int]]:
    """Each chunk's offset and its length in bytes; a question has none."""
    heads = [headers for _, _, headers in stub.seen]
    return [(int(head.get("upload-offset", 0)), int(head["content-length"])) for head in heads]


def send(stub: Stub, folder: Path, *, attempt: int = 1) -> None:
    path = folder / "delta.safetensors"
    path.write_bytes(DATA)

    async def main() -> None:
        api = api_of(stub.url, "secret")
        await upload(api, LeaseHeartbeat(api, "instance", a_lease(attempt)), BlobKind.DELTA, path, REF.sha256)
        await api.close()

    asyncio.run(main())


def test_a_small_file_is_sent_with_the_request_that_begins_its_upload(tmp_path: Path) -> None:
    with stub_server(by_call(POST=begun)) as stub:
        send(stub, tmp_path)
        [(method, path, headers)] = stub.seen
    assert (method, headers["content-digest"]) == ("POST", content_digest_of(REF.sha256))
    assert path == f"/v1/leases/task1/uploads?purpose=delta&sha256={REF.sha256}&n_bytes={len(DATA)}"
    assert chunks_seen(stub) == [(0, len(DATA))]


@pytest.mark.parametrize(("offset", "rest"), [(0, [(0, 16384)]), (4000, [(4000, 12384)]), (len(DATA), [])])
def test_a_later_attempt_asks_before_it_sends(tmp_path: Path, offset: int, rest: list[tuple[int, int]]) -> None:
    with stub_server(by_call(POST=started(offset), PATCH=stored)) as stub:
        send(stub, tmp_path, attempt=2)
        assert chunks_seen(stub) == [(0, 0), *rest]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(409, ProblemType.WRONG_OFFSET), (422, ProblemType.BAD_CHUNK), (404, ProblemType.NOT_FOUND)],
)
def test_a_chunk_out_of_place_makes_the_upload_ask_where_to_resume(
    tmp_path: Path, status: int, kind: ProblemType
) -> None:
    with stub_server(by_call(POST=in_turn(problem(status, kind), started(4000)), PATCH=stored)) as stub:
        send(stub, tmp_path)
        assert chunks_seen(stub) == [(0, 16384), (0, 0), (4000, 12384)]


def test_chunks_that_are_changed_on_the_way_become_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_size, "FIRST_BYTES", 8192)
    monkeypatch.setattr(chunk_size, "MIN_BYTES", 1024)
    starts = in_turn(problem(422, ProblemType.BAD_CHUNK), started(0))
    with stub_server(by_call(POST=starts, PATCH=stored)) as stub:
        send(stub, tmp_path)
        assert chunks_seen(stub)[:4] == [(0, 8192), (0, 0), (0, 4096), (4096, 5120)]


def test_after_a_cut_the_upload_asks_where_to_resume_and_sends_smaller_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_size, "FIRST_BYTES", 8192)
    monkeypatch.setattr(chunk_size, "MIN_BYTES", 1024)
    lost = reply(502, "<html>", "text/html")
    starts, chunks = in_turn(hang_up, started(0), started(8192)), in_turn(lost, stored)
    with stub_server(by_call(POST=starts, PATCH=chunks)) as stub:
        send(stub, tmp_path)
        # the second chunk had arrived; only its reply was lost
        again = [(8192, 2048), (10240, 2560), (12800, 3200), (16000, 384)]
        assert chunks_seen(stub) == [(0, 8192), (0, 0), (0, 4096), (0, 0), *again]
        assert [method for method, _, _ in stub.seen[:5]] == ["POST", "POST", "PATCH", "POST", "PATCH"]


def test_the_next_upload_begins_with_the_size_that_the_line_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_size, "FIRST_BYTES", 1024)
    monkeypatch.setattr(chunk_size, "MIN_BYTES", 1024)
    path = tmp_path / "delta.safetensors"
    path.write_bytes(DATA)

    async def work(api: CoordinatorApi, heartbeat: LeaseHeartbeat) -> None:
        for _ in range(2):
            await upload(api, heartbeat, BlobKind.DELTA, path, REF.sha256)

    with stub_server(by_call(POST=begun, PATCH=stored)) as stub:
        with_heartbeat(stub, work)
        growing = [(0, 1024), (1024, 2048), (3072, 4096), (7168, 8192), (15360, 1024)]
        assert chunks_seen(stub) == [*growing, (0, 16384)]


def test_an_upload_whose_every_chunk_is_cut_backs_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_S", 0.05)

    async def work(api: CoordinatorApi, heartbeat: LeaseHeartbeat) -> None:
        path = tmp_path / "delta.safetensors"
        path.write_bytes(DATA)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await upload(api, heartbeat, BlobKind.DELTA, path, REF.sha256)

    with stub_server(by_call(POST=started(0), PATCH=hang_up)) as stub:
        with_heartbeat(stub, work)
        assert 2 <= len(stub.seen) < 60


def test_the_chunk_size_follows_the_speed_of_the_line() -> None:
    size = ChunkSize()
    assert size.n_bytes == 1 << 20
    for _ in range(5):
        size.succeeded(0.01)
    assert size.n_bytes == CHUNK_BYTES  # a fast line
    for seconds in (268.0, 134.0, 67.0, 34.0, 17.0, 8.4):
        size.succeeded(seconds)
    assert 600_000 < size.n_bytes < 650_000  # 1 Mbit/s for five seconds
    for _ in range(20):
        size.failed()
    assert size.n_bytes == 1 << 16
    size.succeeded(0.01)
    assert size.n_bytes == (1 << 16) * 5 // 4  # after a failure it grows slowly
    for _ in range(40):
        size.succeeded(0.01)
    assert size.n_bytes == CHUNK_BYTES
    size.succeeded(3600)
    assert size.n_bytes == CHUNK_BYTES // 2


def test_a_file_larger_than_the_contract_allows_is_refused(tmp_path: Path) -> None:
    with stub_server(problem(413, ProblemType.TOO_LARGE)) as stub:
        with pytest.raises(CoordinatorRefused, match="too-large"):
            send(stub, tmp_path)
        assert len(stub.seen) == 1
