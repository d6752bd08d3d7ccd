"""Downloads and uploads over connections that break, and a cache that is not what it was."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.api import CoordinatorApi
from agent.errors import CoordinatorRefused, TransferCorrupted
from agent.lease import LeaseKeeper
from agent.transfer import AdapterCache, upload
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from shared.wire.problems import ProblemType
from tests.agent.parts import OURS, a_lease, by_call, in_turn, ours, problem
from tests.unit.stub_server import Answer, Stub, hang_up, reply, stub_server

DATA = bytes(range(256)) * 64
REF = BlobRef(sha256=sha256_hex(DATA), n_bytes=len(DATA))


def blob(request: BaseHTTPRequestHandler) -> None:
    """The blob from where it is asked for."""
    start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    ours(206 if start else 200, DATA[start:])(request)


def broken_off(n_bytes: int, *, tells_length: bool) -> Answer:
    """The blob's first bytes, and then the end of the connection."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in OURS.items():
            request.send_header(name, value)
        request.send_header(*(("Content-Length", str(len(DATA))) if tells_length else ("Connection", "close")))
        request.end_headers()
        request.wfile.write(DATA[:n_bytes])
        request.close_connection = True

    return answer


def with_keeper(stub: Stub, work: Callable[[CoordinatorApi, LeaseKeeper], Awaitable[object]]) -> None:
    async def main() -> None:
        api = CoordinatorApi(stub.url, "secret")
        await work(api, LeaseKeeper(api, "instance", a_lease()))
        await api.close()

    asyncio.run(main())


def fetch(stub: Stub, folder: Path) -> None:
    with_keeper(stub, lambda api, keeper: AdapterCache(folder, 1 << 20).fetch(api, keeper, REF))


def ranges(stub: Stub) -> list[str | None]:
    return [headers.get("range") for method, _, headers in stub.seen if method == "GET"]


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_download_goes_on_where_it_broke_off(tmp_path: Path, tells_length: bool) -> None:
    page = reply(502, "<html>", "text/html")
    with stub_server(in_turn(broken_off(5000, tells_length=tells_length), page, hang_up, blob)) as stub:
        fetch(stub, tmp_path)
        assert ranges(stub) == [None, "bytes=5000-", "bytes=5000-", "bytes=5000-"]
    assert [path.name for path in tmp_path.iterdir()] == [REF.sha256]


@pytest.mark.parametrize("part", [b"x" * 5000, b"x" * 20_000], ids=["short", "longer than the blob"])
def test_a_corrupt_part_is_thrown_away_and_the_next_try_is_whole(tmp_path: Path, part: bytes) -> None:
    (tmp_path / f"{REF.sha256}.part").write_bytes(part)
    with stub_server(blob) as stub:
        with pytest.raises(TransferCorrupted):
            fetch(stub, tmp_path)
        fetch(stub, tmp_path)
    assert (tmp_path / REF.sha256).read_bytes() == DATA


def test_a_cached_blob_is_used_unless_its_bytes_have_changed(tmp_path: Path) -> None:
    with stub_server(blob) as stub:
        for _ in range(2):
            fetch(stub, tmp_path)
        assert len(stub.seen) == 1
        (tmp_path / REF.sha256).write_bytes(b"")
        fetch(stub, tmp_path)
    assert (tmp_path / REF.sha256).read_bytes() == DATA


def test_a_lease_lost_during_a_download_is_got_back_and_the_download_goes_on(tmp_path: Path) -> None:
    closed = problem(403, ProblemType.FORBIDDEN)
    answers = by_call(
        GET=in_turn(broken_off(5000, tells_length=True), closed, blob),
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


def test_the_least_recently_used_go_but_nothing_that_is_in_use(tmp_path: Path) -> None:
    names = ["adapter", "old", "newer", "broadcast"]
    for at, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (at, at))
    cache = AdapterCache(tmp_path, 30)
    cache.evict(keep=(tmp_path / "adapter", tmp_path / "broadcast"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "broadcast", "newer"]
    AdapterCache(tmp_path, 0).evict(keep=(tmp_path / "adapter", tmp_path / "broadcast", None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "broadcast"]


def started(offset: int) -> Answer:
    return ours(201, f'{{"id": "u1", "offset": {offset}, "n_bytes": {len(DATA)}}}')


def send(stub: Stub, folder: Path) -> None:
    path = folder / "delta.safetensors"
    path.write_bytes(DATA)
    with_keeper(stub, lambda api, keeper: upload(api, keeper, BlobKind.DELTA, path, REF.sha256))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(409, ProblemType.WRONG_OFFSET), (422, ProblemType.BAD_CHUNK), (404, ProblemType.NOT_FOUND)],
)
def test_a_chunk_out_of_place_makes_the_upload_ask_where_to_go_on(
    tmp_path: Path, status: int, kind: ProblemType
) -> None:
    chunks = in_turn(hang_up, problem(status, kind), ours(204, Upload_Offset=str(len(DATA))))
    with stub_server(by_call(POST=in_turn(started(0), started(4000)), PATCH=chunks)) as stub:
        send(stub, tmp_path)
        assert [h["upload-offset"] for method, _, h in stub.seen if method == "PATCH"] == ["0", "0", "4000"]


def test_what_is_there_already_is_not_sent_again(tmp_path: Path) -> None:
    with stub_server(by_call(POST=started(len(DATA)))) as stub:
        send(stub, tmp_path)
        assert [method for method, _, _ in stub.seen] == ["POST"]


def test_a_file_larger_than_the_contract_allows_is_refused(tmp_path: Path) -> None:
    with stub_server(problem(413, ProblemType.TOO_LARGE)) as stub:
        with pytest.raises(CoordinatorRefused, match="too-large"):
            send(stub, tmp_path)
        assert len(stub.seen) == 1
