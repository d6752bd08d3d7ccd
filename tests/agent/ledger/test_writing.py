"""Entries are on the disk before a request leaves, in one chain, whatever happens to the writer."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.errors import LedgerUnusable
from agent.ledger.entries import NOTHING_BEFORE, PollsClosed, PollsOpened, Request
from agent.ledger.files import Head, entries
from agent.ledger.ledger import Ledger
from agent.ledger.outbound import Chunk, Outbound, Purpose
from agent.ledger.verification import verify
from shared.digest import sha256_hex
from tests.agent.ledger.making import a_poll, a_request, filled, noted
from tests.support.processes import ROOT


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def said(ledger: Ledger) -> list[Any]:
    return [entry.says for entry, _ in entries(ledger.files)]


def test_each_entry_names_the_line_before_by_its_digest(ledger: Ledger) -> None:
    noted(ledger, [a_request(1), a_request(2), a_request(3)])
    lines = [line.rstrip(b"\n") for _, _, line in ledger.files.lines()]
    chained = [(entry.n, entry.prev) for entry, _ in entries(ledger.files)]
    assert chained == list(zip((1, 2, 3), (NOTHING_BEFORE, sha256_hex(lines[0]), sha256_hex(lines[1])), strict=True))
    assert ledger.head() == Head(3, sha256_hex(lines[2]))


def test_an_entry_is_synced_before_its_request_may_leave(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (sync(descriptor), order.append("synced"))[0])

    async def send() -> None:
        await ledger.note(a_request())
        order.append("sent")

    asyncio.run(send())
    assert order[-1] == "sent"
    assert "synced" in order


def test_requests_that_start_together_share_a_sync(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    append = ledger.files.append
    monkeypatch.setattr(ledger.files, "append", lambda *given: (counted.update(["append"]), append(*given))[1])

    async def send() -> None:
        await asyncio.gather(*(ledger.note(a_request(number)) for number in range(200)))

    asyncio.run(send())
    assert counted["append"] <= 3
    assert len(said(ledger)) == 200
    assert verify(ledger.files).is_whole


def test_a_run_of_polls_is_two_entries(ledger: Ledger) -> None:
    noted(ledger, [a_poll(), a_poll(Purpose.NEWS), a_poll(), a_poll(), a_poll(Purpose.NEWS), a_request(), a_poll()])
    match said(ledger):
        case [PollsOpened() as work, PollsOpened() as news, PollsClosed() as ended, PollsClosed() as no_news, *rest]:
            assert (work.purpose, news.purpose) == (Purpose.WORK, Purpose.NEWS)
            assert (ended.opened, ended.count, ended.bytes) == (1, 3, 150)
            assert (no_news.opened, no_news.count, no_news.bytes) == (2, 2, 0)
            assert ended.first <= ended.last
            assert [type(each) for each in rest] == [Request, PollsOpened, PollsClosed]
        case others:
            pytest.fail(f"{others}")


def test_polls_at_one_time_are_all_counted(ledger: Ledger) -> None:
    async def poll() -> None:
        await asyncio.gather(*(ledger.note(a_poll()) for _ in range(20)))
        await ledger.note(a_request())

    asyncio.run(poll())
    [opened, closed, _] = said(ledger)
    assert (type(opened), closed.count) == (PollsOpened, 20)


def test_a_body_that_is_large_or_holds_a_secret_is_not_kept() -> None:
    def body_of(text: str, *, has_secret: bool = False) -> Any:
        outbound = Outbound.of(Purpose.RESULT, "PUT", "/", None, text, None, {}, has_secret=has_secret)
        assert (outbound.n_bytes, outbound.sha256) == (len(text), sha256_hex(text.encode()))
        return outbound.body

    assert body_of('{"a": 1}') == {"a": 1}
    assert body_of('{"a": 1}', has_secret=True) is None
    assert body_of(f'"{"x" * 20_000}"') is None


def test_a_part_of_a_file_is_noted_by_its_digest_and_place() -> None:
    headers = {"Upload-Offset": "5", "Content-Digest": "sha-256=:x:", "Content-Type": "application/octet-stream"}
    chunk = Chunk(b"bytes", sha256_hex(b"bytes"))
    outbound = Outbound.of(Purpose.CHUNK, "PATCH", "/v1/uploads/u", "c1", None, chunk, headers, has_secret=False)
    assert (outbound.n_bytes, outbound.sha256, outbound.body) == (5, sha256_hex(b"bytes"), None)
    assert outbound.headers == {"Upload-Offset": "5"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_nothing_leaves_while_the_disk_is_full_and_nothing_is_lost_of_what_was(ledger: Ledger) -> None:
    async def send() -> None:
        await ledger.note(a_poll())
        await ledger.note(a_poll())
        full = ledger.files.file_of(999)
        full.symlink_to("/dev/full")
        for outbound in (a_request(), a_poll(Purpose.NEWS)):
            with pytest.raises(OSError, match="No space left"):
                await ledger.note(outbound)
        full.unlink()
        await ledger.note(a_poll())
        await ledger.note(a_request())

    asyncio.run(send())
    [_, closed, request] = said(ledger)
    assert (closed.count, type(request)) == (3, Request)
    assert verify(ledger.files).is_whole


@pytest.mark.parametrize("torn", [b"{", b'{"n":4,"at":"2026', b"\x00" * 5000])
def test_a_line_that_was_not_written_whole_is_cut_off(ledger: Ledger, torn: bytes) -> None:
    noted(ledger, map(a_request, (1, 2, 3)))
    with ledger.files.all()[-1].open("ab") as file:
        file.write(torn)
    assert verify(ledger.files).is_whole, "of what was not synced, nothing was sent"
    noted(ledger, [a_request(4)])
    assert [entry.n for entry, _ in entries(ledger.files)] == [1, 2, 3, 4]
    assert verify(ledger.files).is_whole


def test_large_files_are_followed_by_others_in_one_chain(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger", 30)
    files = ledger.files.all()
    assert len(files) > 3
    assert all(path.stat().st_size < 2 * 2000 for path in files)
    assert verify(ledger.files).is_whole
    for path in files[:2]:  # whoever keeps them may move them elsewhere
        path.unlink()
    noted(ledger, [a_request(31)])
    found = verify(ledger.files)
    assert (found.is_whole, found.first > 1, found.head.n) == (True, True, 31)


WRITER = """
import sys
from pathlib import Path
from agent.ledger.ledger import Ledger
from tests.agent.ledger.making import a_request, noted
noted(Ledger(Path(sys.argv[1]), 5000), map(a_request, range(50)))
"""


def test_processes_beside_each_other_write_one_chain(ledger: Ledger) -> None:
    argv = [sys.executable, "-c", WRITER, str(ledger.files.folder)]
    writers = [subprocess.Popen(argv, cwd=ROOT) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = verify(ledger.files)
    assert (found.problems, found.n_entries) == ([], 150)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: lines[:-1], "it ends with entry 4, and had 5"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"5.0", b"6.0")], "entry 5 was edited"),
        (lambda lines: [*lines, b"{}\n"], "the last line of .* is not an entry"),
        (lambda _: [], "it ends with entry 0, and had 5"),
    ],
    ids=["cut", "edited", "not an entry", "empty"],
)
def test_an_agent_does_not_write_on_in_a_ledger_that_was_changed(ledger: Ledger, spoil: Any, says: str) -> None:
    noted(ledger, map(a_request, range(1, 6)))
    [path] = ledger.files.all()
    path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(LedgerUnusable, match=says):
        ledger.head()
    with pytest.raises(LedgerUnusable, match=says):
        noted(ledger, [a_request()])


def test_files_and_folder_are_their_owners_alone(ledger: Ledger) -> None:
    noted(ledger, [a_request()])
    assert {path.stat().st_mode & 0o777 for path in ledger.files.folder.iterdir()} == {0o600}
    assert ledger.files.folder.stat().st_mode & 0o777 == 0o700
