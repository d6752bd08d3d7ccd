"""Backups: contents of the file, valid places to restore it, and refusals."""

import asyncio
import hashlib
import io
import json
import resource
import sys
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import JSON, Text, cast, delete, func, select, text, update

from coordinator.app import create_services
from coordinator.backup.errors import (
    BackupError,
    BadBackup,
    Busy,
    DamagedBlobs,
    FileExists,
    NoDatabase,
    NoRoom,
    NotEmpty,
    Unreadable,
)
from coordinator.backup.places import work_folder
from coordinator.backup.restoring import restore
from coordinator.backup.saving import back_up
from coordinator.database.migrate import UnknownSchema
from coordinator.database.tables import (
    AdapterRow,
    AgentRow,
    Base,
    BlobChunkRow,
    BlobRow,
    BlobUseRow,
    CampaignRow,
    OperatorKeyRow,
    ParticipantRow,
    TaskRow,
    UploadRow,
    VerificationRow,
    VerifiedRoundRow,
)
from coordinator.services import Services
from coordinator.settings import Settings
from fedloom.cli import main
from shared.digest import sha256_hex
from shared.signing.statements import FIRST, HistorySigned, digest_of, statement_of
from shared.states import BlobKind, RoundState
from shared.wire.base import BlobRef
from tests.support import next_release
from tests.support.server import quick_settings
from tests.support.suite.tiers import EACH_STORE, POSTGRES

T = TypeVar("T")
Work = Callable[[Services], Awaitable[T]]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEFT_OUT = {UploadRow.__tablename__, BlobRow.__tablename__, BlobChunkRow.__tablename__}
ADAPTER, DELTA = b"the adapter" * 200_000, b"the delta" * 1000


async def revision_of(services: Services) -> Any:
    async with services.database.read() as session:
        return await session.scalar(text("SELECT version_num FROM alembic_version"))


def with_services(settings: Settings, work: Work[T]) -> T:
    async def run() -> T:
        services = create_services(settings)
        try:
            return await work(services)
        finally:
            await services.database.close()

    return asyncio.run(run())


async def rows(services: Services) -> dict[str, list[dict[str, Any]]]:
    """All rows that a backup must contain, with JSON as text."""
    found = {}
    async with services.database.read() as session:
        for table in Base.metadata.sorted_tables:
            columns = [cast(c, Text).label(c.name) if isinstance(c.type, JSON) else c for c in table.columns]
            query = select(*columns).order_by(*table.primary_key.columns)
            if table.name not in LEFT_OUT:
                found[table.name] = [dict(row) for row in (await session.execute(query)).mappings()]
    return found


async def stored(services: Services) -> dict[tuple[BlobKind, int], list[bytes]]:
    """The bytes of all blobs that are stored, by kind and round, each checked against its digest."""
    async with services.database.read() as session:
        uses = (await session.scalars(select(BlobUseRow).where(BlobUseRow.stored).order_by(BlobUseRow.id))).all()
    found: dict[tuple[BlobKind, int], list[bytes]] = {}
    for use in uses:
        ref = BlobRef(sha256=use.sha256, n_bytes=use.n_bytes)
        async with services.storage.store_of(use.kind).as_file(ref, services.storage.scratch) as path:
            found.setdefault((use.kind, use.round), []).append(path.read_bytes())
    return found


async def held(services: Services) -> set[str]:
    """The digests of all blobs in all stores."""
    return set().union(*[await store.names() for store in services.storage.stores])


async def n_of(services: Services, table: type[Base]) -> int:
    async with services.database.read() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


def settings_at(request: pytest.FixtureRequest, folder: Path, kind: str, updates: str) -> Settings:
    """Settings of a coordinator with a new database of the given kind. updates: where they are stored."""
    url = request.getfixturevalue("new_postgres")() if kind == "postgres" else None
    return quick_settings(folder, url, updates)


async def fill(services: Services) -> None:
    """Add an agent and a completed campaign with one stored adapter and one stored update."""
    staged = services.storage.scratch / "staged"
    refs = {}
    for kind, data in ((BlobKind.ADAPTER, ADAPTER), (BlobKind.DELTA, DELTA)):
        staged.write_bytes(data)
        refs[kind] = BlobRef(sha256=sha256_hex(data), n_bytes=len(data))
        await services.storage.store_of(kind).put(staged, refs[kind])
    staged.unlink(missing_ok=True)
    adapter, delta = refs[BlobKind.ADAPTER], refs[BlobKind.DELTA]
    async with services.database.write("test") as session:
        session.add(OperatorKeyRow(id="k", key_hash="h", created_at=NOW))
        session.add(
            AgentRow(id="a", name="ada", labels={}, state="active", secret_hash="s", version="1", created_at=NOW)
        )
        session.add(
            CampaignRow(
                id="c", name="small", spec_json={}, state="running", created_at=NOW, resumed_at=NOW, due_at=NOW,
                claim_token="engine", claim_expires_at=NOW,
            )
        )  # fmt: skip
        await session.flush()
        participant = {"campaign_id": "c", "agent_id": "a", "agent_name": "ada", "client_number": 0}
        session.add(ParticipantRow(**participant, state="prepared", committed_update_sha256="d", n_train=3))
        task = {"campaign_id": "c", "agent_id": "a", "kind": "train", "created_at": NOW, "round": 1}
        session.add(TaskRow(id="t", state="done", **task))
        session.add(TaskRow(id="u", state="superseded", **task, result=None, failure={"of": [1, 0.1, None]}))
        for job_id, token in (("v", "engine"), ("w", None)):
            job = {"campaign_id": "c", "state": "running", "created_at": NOW, "due_at": NOW, "requested": [1]}
            session.add(VerificationRow(id=job_id, claim_token=token, claim_expires_at=NOW if token else None, **job))
        await session.flush()
        session.add(VerifiedRoundRow(verification_id="v", round=0, adapter_sha256="0", outcome="verified"))
        session.add(VerifiedRoundRow(verification_id="v", round=1, adapter_sha256="1"))
        session.add(AdapterRow(campaign_id="c", number=1, **adapter.model_dump(), contributions=[], created_at=NOW))
        session.add(BlobUseRow(id="x", campaign_id="c", kind="adapter", round=1, **adapter.model_dump()))
        session.add(BlobUseRow(id="y", campaign_id="c", kind="delta", round=1, task_id="t", **delta.model_dump()))
        session.add(UploadRow(id="z", task_id="t", purpose="delta", sha256="0", n_bytes=1, offset=0, updated_at=NOW))
        for blob in ("upload:z", sha256_hex(b"not whole")):  # an upload and a put in progress
            session.add(BlobChunkRow(blob=blob, offset=0, data=b"part"))


@pytest.fixture
def small(data_dir: Path, updates: str) -> Settings:
    settings = quick_settings(data_dir, None, updates)
    with_services(settings, fill)
    return settings


@pytest.fixture
def saved(small: Settings, tmp_path: Path) -> Path:
    """A backup of the small coordinator."""
    back_up(small, tmp_path / "saved.tar")
    return tmp_path / "saved.tar"


@pytest.fixture
def place(tmp_path: Path, updates: str) -> Settings:
    """Settings of the place to restore to."""
    return quick_settings(tmp_path / "place", None, updates)


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def write_tar(file: Path, contents: dict[str, bytes]) -> None:
    """Write a tar file with correct checksums, as a forger would."""
    sums = "".join(f"{sha256_hex(contents[name])}  {name}\n" for name in ("fedloom.db", "manifest.json"))
    with tarfile.open(file, "w") as tar:
        for name, data in {**contents, "SHA256SUMS": sums.encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@EACH_STORE
def test_a_backup_is_complete_and_other_tools_can_check_it(small: Settings, saved: Path) -> None:
    contents = members(saved)
    assert list(contents) == [
        f"blobs/{sha256_hex(DELTA)}", f"blobs/{sha256_hex(ADAPTER)}", "fedloom.db", "manifest.json", "SHA256SUMS"
    ]  # fmt: skip
    for line in contents["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(contents[name]).hexdigest() == digest
    assert json.loads(contents["manifest.json"])["schema_revision"] == with_services(small, revision_of)
    assert not list(small.data_dir.glob("scratch/*"))


@EACH_STORE
@pytest.mark.parametrize("kind", ["sqlite", POSTGRES])
def test_rows_are_equal_and_claims_and_uploads_are_not_restored(
    small: Settings, saved: Path, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    updates = small.storage.updates
    other = settings_at(request, tmp_path / "place", kind, updates)
    show: list[tuple[int, int]] = []
    manifest = restore(other, saved, show=lambda *bytes_: show.append(bytes_))
    assert [done <= total for done, total in show] == [True] * len(show)
    assert show[-1][0] >= manifest.n_bytes
    found, expected = with_services(other, rows), with_services(small, rows)
    [campaign] = expected["campaigns"]
    campaign.update(claim_token=None, claim_expires_at=None, due_at=manifest.made_at)
    begins_again(expected, found)
    expected["verifications"][0].update(claim_token=None, claim_expires_at=None)
    assert found == expected
    assert with_services(other, lambda services: n_of(services, UploadRow)) == 0
    n_in_database = 2 if updates == "database" else 1
    assert with_services(other, lambda services: n_of(services, BlobRow)) == n_in_database
    assert with_services(other, lambda services: n_of(services, BlobChunkRow)) == n_in_database
    assert with_services(other, stored) == {(BlobKind.ADAPTER, 1): [ADAPTER], (BlobKind.DELTA, 1): [DELTA]}


def begins_again(before: dict[str, Any], restored: dict[str, Any]) -> None:
    """Expect that each campaign began another history: agents follow a restored coordinator only into a later one.

    It is stated, so that it will be signed, and so are the clients of a round that is under way.
    """
    for campaign, now in zip(before["campaigns"], restored["campaigns"], strict=True):
        assert now["history"] > campaign["history"]
        stated = [each for each in restored["statements"] if each["campaign_id"] == campaign["id"]]
        new = stated[campaign["n_statements"] :]
        history, *rosters = [statement_of(each["text"]) for each in new]
        assert isinstance(history, HistorySigned)
        assert (history.history, history.previous) == (now["history"], campaign["last_statement"] or FIRST)
        under_way = [each for each in before["rounds"] if each["state"] in (RoundState.OPEN, RoundState.AGGREGATING)]
        assert [each.kind for each in rosters] == ["roster"] * len(under_way)
        before["statements"] += new
        campaign |= {"history": now["history"], "n_statements": len(stated)}
        campaign["last_statement"] = digest_of(new[-1]["text"])


@pytest.mark.parametrize("target", ["sqlite", POSTGRES])
def test_a_backup_of_an_older_release_is_upgraded(
    small: Settings, saved: Path, tmp_path: Path, request: pytest.FixtureRequest, target: str
) -> None:
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    next_release.install(tmp_path / "next", with_services(small, revision_of), monkeypatch)
    other = settings_at(request, tmp_path / "place", target, "files")
    restore(other, saved)

    assert with_services(other, revision_of) == next_release.REVISION
    found, expected = with_services(other, rows), with_services(small, rows)
    expected["campaigns"][0].update(claim_token=None, claim_expires_at=None, due_at=found["campaigns"][0]["due_at"])
    begins_again(expected, found)
    expected["verifications"][0].update(claim_token=None, claim_expires_at=None)
    assert found == expected
    assert with_services(other, stored) == {(BlobKind.ADAPTER, 1): [ADAPTER], (BlobKind.DELTA, 1): [DELTA]}


def test_a_newer_schema_is_refused_at_both_ends(small: Settings, saved: Path, place: Settings, tmp_path: Path) -> None:
    async def mark(services: Services) -> None:
        async with services.database.write("test") as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    words = "schema 9999, which this version of fedloom does not know; use the version that made it"
    with_services(small, mark)
    with pytest.raises(UnknownSchema, match=words):
        back_up(small, tmp_path / "new.tar")
    assert not list(tmp_path.glob("*new.tar*"))
    contents = members(saved)

    async def empty(services: Services) -> None:
        async with services.database.engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA user_version")

    with_services(small, empty)  # closes the last connection, so that the file is complete
    write_tar(tmp_path / "new.tar", {**contents, "fedloom.db": (small.data_dir / "fedloom.db").read_bytes()})
    with pytest.raises(UnknownSchema, match=words):
        restore(place, tmp_path / "new.tar")
    assert not place.data_dir.exists()


def refused(place: Settings, file: Path, why: str) -> None:
    with pytest.raises(BadBackup, match=why):
        restore(place, file)
    assert not place.data_dir.exists(), "the refused restore left files behind"


def test_a_file_that_is_not_whole_or_was_altered_is_refused(saved: Path, place: Settings, tmp_path: Path) -> None:
    whole, altered = saved.read_bytes(), tmp_path / "altered.tar"
    for n_bytes in (0, 100, 512, 5000, len(whole) // 2, len(whole) - 1024 - 300, len(whole) - 2048):
        altered.write_bytes(whole[:n_bytes])
        refused(place, altered, "cannot be restored")
    parts = (ADAPTER[:99], DELTA[:99], b"SQLite format 3", b'"made_at"', b"  fedloom.db\n")
    places = [whole.index(part) for part in parts]
    with tarfile.open(saved) as tar:
        places += [member.offset for member in tar]
    for position in places:
        altered.write_bytes(whole[: position + 5] + bytes([whole[position + 5] ^ 1]) + whole[position + 6 :])
        refused(place, altered, "cannot be restored")


def test_foreign_and_forged_files_are_refused(saved: Path, place: Settings, tmp_path: Path) -> None:
    contents, forged = members(saved), tmp_path / "forged.tar"
    forged.write_bytes(b"no tar at all" * 1000)
    refused(place, forged, "not a backup")
    with tarfile.open(forged, "w:gz") as tar:
        tar.add(saved, "saved.tar")
    refused(place, forged, "not a backup")
    for name in ("../outside", "/tmp/outside", "blobs/../../outside", "blobs/abc", "notes.txt"):
        write_tar(forged, {name: b"x", **contents})
        refused(place, forged, "which is not part of a backup")
    link = tarfile.TarInfo(f"blobs/{'0' * 64}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(forged, "w") as tar:
        tar.addfile(link)
    refused(place, forged, "which is not part of a backup")
    blob = f"blobs/{sha256_hex(DELTA)}"
    write_tar(forged, {name: data for name, data in contents.items() if name != blob})
    refused(place, forged, f"{blob} is missing")
    write_tar(forged, {**contents, blob: DELTA + b"more"})
    refused(place, forged, f"{blob} was altered")
    write_tar(forged, {**contents, "manifest.json": contents["manifest.json"].replace(b'"format": 1', b'"format": 2')})
    refused(place, forged, "upgrade fedloom")
    write_tar(forged, {**contents, "fedloom.db": b"no database" * 1000})
    with pytest.raises(BackupError, match="not a SQLite database"):
        restore(place, forged)
    assert not place.data_dir.exists()
    assert not (tmp_path / "outside").exists()


def test_only_an_empty_place_is_restored_into(small: Settings, saved: Path, place: Settings) -> None:
    before = (small.data_dir / "fedloom.db").read_bytes()
    with pytest.raises(NotEmpty, match=r"fedloom\.db exists"):
        restore(small, saved)
    assert (small.data_dir / "fedloom.db").read_bytes() == before
    place.data_dir.mkdir()
    log = place.data_dir / "fedloom.db-wal"
    log.write_bytes(b"of another database")
    with pytest.raises(NotEmpty, match=r"fedloom\.db-wal exists"):
        restore(place, saved)
    assert list(place.data_dir.iterdir()) == [log]


@pytest.mark.deep
def test_only_an_empty_database_is_restored_into(saved: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    postgres = settings_at(request, tmp_path / "postgres", "postgres", "files")
    restore(postgres, saved)
    expected = with_services(postgres, rows)
    with pytest.raises(NotEmpty, match=r"postgresql.*exists"):
        restore(postgres, saved)
    assert with_services(postgres, rows) == expected
    assert with_services(postgres, stored) == {(BlobKind.ADAPTER, 1): [ADAPTER], (BlobKind.DELTA, 1): [DELTA]}


@pytest.mark.deep
@pytest.mark.parametrize("updates", ["files", "database", "tree"], indirect=True)
def test_a_restore_into_postgres_that_fails_leaves_nothing(
    saved: Path, tmp_path: Path, request: pytest.FixtureRequest, updates: str
) -> None:
    """Blobs are written first and deleted on failure. A killed restore leaves some; the next restore deletes them."""
    other = settings_at(request, tmp_path / "place", "postgres", updates)
    contents, forged = members(saved), tmp_path / "forged.tar"
    for name in (f"blobs/{sha256_hex(DELTA)}", f"blobs/{sha256_hex(ADAPTER)}"):
        write_tar(forged, {**contents, name: b"x"})
        with pytest.raises(BadBackup, match="was altered"):
            restore(other, forged)
        for table in (BlobRow, BlobChunkRow, OperatorKeyRow):
            assert with_services(other, lambda services, table=table: n_of(services, table)) == 0  # type: ignore[misc]
        assert with_services(other, held) == set()

    async def leave_bytes(services: Services) -> None:
        async with services.database.write("test") as session:
            session.add(BlobRow(sha256="0" * 64, n_bytes=1))
            session.add(BlobChunkRow(blob="0" * 64, offset=0, data=b"x"))
            session.add(BlobChunkRow(blob=sha256_hex(ADAPTER), offset=0, data=b"x"))

    with_services(other, leave_bytes)
    restore(other, saved)
    assert with_services(other, held) == {sha256_hex(ADAPTER), sha256_hex(DELTA)}
    assert with_services(other, stored) == {(BlobKind.ADAPTER, 1): [ADAPTER], (BlobKind.DELTA, 1): [DELTA]}


async def flip_a_bit_of_the_adapter(services: Services) -> None:
    async with services.database.write("test") as session:
        rotten = bytes([ADAPTER[0] ^ 1]) + ADAPTER[1:]
        chunk = update(BlobChunkRow).where(BlobChunkRow.blob == sha256_hex(ADAPTER))
        await session.execute(chunk.values(data=rotten))


async def lose_a_part_of_the_delta(services: Services) -> str:
    """Cut the end off the file of the update, or delete its chunk. Returns where it was."""
    for path in services.settings.data_dir.rglob("*"):
        if path.is_file() and path.read_bytes() == DELTA:
            path.write_bytes(DELTA[:-1])
    async with services.database.write("test") as session:
        await session.execute(delete(BlobChunkRow).where(BlobChunkRow.blob == sha256_hex(DELTA)))
    return services.storage.store_of(BlobKind.DELTA).place


@EACH_STORE
def test_damage_fails_the_backup_and_is_named(small: Settings, tmp_path: Path, place: Settings) -> None:
    where = with_services(small, lose_a_part_of_the_delta)
    with_services(small, flip_a_bit_of_the_adapter)
    with pytest.raises(DamagedBlobs) as caught:
        back_up(small, tmp_path / "backup.tar")
    message = str(caught.value)
    assert f"campaign small, adapter of round 1 ({sha256_hex(ADAPTER)}): its bytes have the digest" in message
    lost = f"some or all of its bytes are missing in {where}"
    assert f"campaign small, delta of round 1 ({sha256_hex(DELTA)}): {lost}" in message
    assert not list(tmp_path.glob("*backup.tar*"))
    manifest = back_up(small, tmp_path / "backup.tar", leave_out_damaged=True)
    assert (len(manifest.left_out), manifest.adapters, manifest.updates) == (2, 0, 0)
    restore(place, tmp_path / "backup.tar")
    assert with_services(place, stored) == {}
    assert with_services(small, lambda services: n_of(services, BlobUseRow)) == 2
    assert with_services(place, lambda services: n_of(services, BlobUseRow)) == 2


def test_an_unreadable_database_is_reported(small: Settings, tmp_path: Path) -> None:
    database = small.data_dir / "fedloom.db"
    pages = bytearray(database.read_bytes())
    pages[8192:-8192] = b"x" * len(pages[8192:-8192])
    database.write_bytes(pages)
    with pytest.raises(Unreadable, match="its file is damaged"):
        back_up(small, tmp_path / "backup.tar")
    assert not list(tmp_path.glob("*backup.tar*"))


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@EACH_STORE
def test_without_room_nothing_is_left(small: Settings, saved: Path, place: Settings, tmp_path: Path) -> None:
    with files_of_at_most(len(ADAPTER) // 2):
        with pytest.raises(NoRoom, match="the disk is full"):
            back_up(small, tmp_path / "backup.tar")
        with pytest.raises(OSError, match="too large"):
            restore(place, saved)
    assert not list(tmp_path.glob("*backup.tar*"))
    assert not place.data_dir.exists()
    restore(place, saved)


def test_impossible_paths_are_refused(small: Settings, saved: Path, place: Settings) -> None:
    before = saved.read_bytes()
    with pytest.raises(FileExists, match="already exists"):
        back_up(small, saved)
    assert saved.read_bytes() == before
    with pytest.raises(NoDatabase, match="there is no coordinator's database at"):
        back_up(place, saved.with_name("other.tar"))
    assert not place.data_dir.exists()
    with work_folder(place.data_dir / "restore.part"), pytest.raises(Busy, match="another restore is running"):
        restore(place, saved)
    with pytest.raises(FileNotFoundError):
        back_up(small, saved.parent / "nowhere" / "other.tar")


def test_the_commands_report_what_they_did(
    small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FEDLOOM_DATABASE_URL", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fedloom", "coordinator", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    file, data, place = tmp_path / "backup.tar", ("--data-dir", small.data_dir), ("--data-dir", tmp_path / "place")
    code, out, err = run("backup", file, *data)
    assert (code, err) == (0, f"not in it: the signing key, {small.signing_key_file}; keep a copy of that file\n")
    assert out.startswith("backed up 1 campaign, 1 adapter, 1 update, ")
    assert out.endswith(f", to {file}\n")
    code, _, err = run("backup", file, *data)
    assert (code, err) == (1, f"fedloom: {file} already exists; give another name, or move it away\n")
    code, out, _ = run("restore", file, *place)
    assert code == 0
    assert out.startswith("restored 1 campaign, 1 adapter, 1 update, ")
    assert "fedloom coordinator serve" in out
    assert run("restore", file, *place)[0] == 1
    document = json.loads(run("backup", tmp_path / "second.tar", *data, "--json")[1])
    assert (document["file"], document["campaigns"]) == (str(tmp_path / "second.tar"), 1)
    document = json.loads(run("restore", file, "--data-dir", tmp_path / "third", "--json")[1])
    assert document["database"] == str(tmp_path / "third" / "fedloom.db")
    with_services(small, flip_a_bit_of_the_adapter)
    code, _, err = run("backup", tmp_path / "third.tar", *data)
    assert code == 1
    assert "--leave-out-damaged" in err
    code, _, err = run("backup", tmp_path / "third.tar", *data, "--leave-out-damaged")
    assert code == 0
    assert err.startswith("left out: campaign small, adapter of round 1")
