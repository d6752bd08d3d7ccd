"""Sizes that a coordinator names: what is downloaded, what is kept, and uploads that would never end."""

import asyncio
import gzip
import os
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.configuration.settings import NetworkSettings
from agent.errors import TaskFailed, TransferCorrupted
from agent.network import chunk_size, transfer
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat
from agent.network.transfer import AdapterCache, upload
from agent.workspace import Workspace
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from tests.agent.parts import OURS, SHA, a_lease, by_call, in_turn, ours
from tests.support.ledgers import api_of
from tests.unit.stub_server import Answer, Stub, stub_server

DATA = bytes(range(256)) * 40
REF = BlobRef(sha256=sha256_hex(DATA), n_bytes=len(DATA))


def transferring(answer: Answer, work: Callable[[CoordinatorApi, LeaseHeartbeat], Awaitable[object]]) -> Stub:
    async def main(stub: Stub) -> None:
        api = api_of(stub.url, "secret", network=NetworkSettings(timeout_s=1))
        try:
            await work(api, LeaseHeartbeat(api, "instance", a_lease()))
        finally:
            await api.close()

    with stub_server(answer) as stub:
        asyncio.run(main(stub))
    return stub


def fetch(answer: Answer, folder: Path, ref: BlobRef = REF, max_bytes: int = 1 << 20) -> Stub:
    return transferring(answer, lambda api, heartbeat: AdapterCache(folder, max_bytes).fetch(api, heartbeat, ref))


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    for name, value in OURS.items():
        request.send_header(name, value)
    request.end_headers()
    request.close_connection = True
    try:
        while True:
            request.wfile.write(b"x" * 65536)
    except OSError:
        return


def test_a_download_stops_at_the_blobs_size(tmp_path: Path) -> None:
    with pytest.raises(TransferCorrupted):
        fetch(endless, tmp_path)
    assert list(tmp_path.iterdir()) == []
    fetch(ours(200, DATA + b"more"), tmp_path)
    assert (tmp_path / REF.sha256).read_bytes() == DATA


def test_an_encoded_download_writes_nothing(tmp_path: Path) -> None:
    bomb = ours(200, gzip.compress(bytes(50 << 20)), Content_Encoding="gzip")
    fetch(in_turn(bomb, ours(200, DATA)), tmp_path)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [len(DATA)]


def test_a_size_beyond_the_disk_fails_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="1,000,000,000,000,000 bytes more") as caught:
        fetch(endless, tmp_path, BlobRef(sha256=SHA, n_bytes=10**15))
    assert caught.value.failure.kind == "transfer"
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_does_not_fit_now_waits_for_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = transfer.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(transfer.shutil, "disk_usage", lambda _: disk._replace(free=transfer._RESERVE_BYTES))
        with pytest.raises(OSError, match="does not fit beside a reserve") as caught:
            fetch(endless, tmp_path, BlobRef(sha256=SHA, n_bytes=1000))
    assert caught.value.errno == transfer.errno.ENOSPC
    fetch(ours(200, DATA), tmp_path)
    assert (tmp_path / REF.sha256).exists()


def test_unfinished_downloads_count_in_the_cache_and_go_first_when_they_are_old(tmp_path: Path) -> None:
    part = tmp_path / f"{SHA}.part"
    part.write_bytes(bytes(900_000))
    fetch(ours(200, DATA), tmp_path, max_bytes=905_000)
    assert [path.name for path in tmp_path.iterdir()] == [REF.sha256]


def test_downloads_that_were_never_finished_are_deleted_after_days(tmp_path: Path) -> None:
    home = Workspace(tmp_path / "home")
    home.create()
    old, new = home.adapters / "old.part", home.adapters / "new.part"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    home.tidy()
    assert [path.name for path in home.adapters.iterdir()] == ["new.part"]


def test_a_download_that_stands_still_is_cut_and_resumed(tmp_path: Path) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        for name, value in OURS.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(DATA)))
        request.end_headers()
        request.close_connection = True
        try:
            for byte in DATA:
                request.wfile.write(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            return

    def rest(request: BaseHTTPRequestHandler) -> None:
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        ours(206 if start else 200, DATA[start:])(request)

    stub = fetch(in_turn(drip, rest), tmp_path)
    assert len(stub.seen) == 2
    assert (tmp_path / REF.sha256).read_bytes() == DATA


@pytest.mark.deep
def test_an_upload_that_never_advances_asks_ever_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_size, "FIRST_BYTES", 1024)
    monkeypatch.setattr("agent.network.retry.BASE_S", 0.05)

    def stored_up_to(request: BaseHTTPRequestHandler) -> None:
        end = int(request.headers["Upload-Offset"]) + int(request.headers["Content-Length"])
        ours(204 if end <= 2048 else 500, Upload_Offset=str(end))(request)

    started = ours(201, f'{{"id": "u1", "offset": 0, "n_bytes": {len(DATA)}}}')
    beyond = ours(201, f'{{"id": "u1", "offset": {len(DATA) + 1}, "n_bytes": {len(DATA)}}}')
    path = tmp_path / "delta"
    path.write_bytes(DATA)

    async def work(api: CoordinatorApi, heartbeat: LeaseHeartbeat) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await upload(api, heartbeat, BlobKind.DELTA, path, REF.sha256)

    for first in (started, beyond):
        stub = transferring(by_call(POST=first, PATCH=stored_up_to), work)
        assert 2 <= len(stub.seen) < 40
