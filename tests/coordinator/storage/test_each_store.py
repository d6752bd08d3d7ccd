"""What every store of updates must do, in the terms of its two interfaces."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from coordinator.database.tables import AgentRow, BlobUseRow, CampaignRow, TaskRow, UploadRow
from coordinator.errors import CorruptBlob, NotFound
from coordinator.services import Services
from coordinator.settings import Settings
from coordinator.storage.orphans import sweep_orphans
from coordinator.storage.retention import release_blobs
from coordinator.storage.storage import Storage
from coordinator.storage.stores import CHUNK_BYTES
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from tests.coordinator.backup.test_backup import with_services
from tests.support.scripted import campaign_body
from tests.support.server import quick_settings
from tests.support.stored import stage
from tests.support.suite.tiers import deep

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATA = bytes(range(256)) * (CHUNK_BYTES // 256) + b"and a little more"
WAIT_S = 0.2

pytestmark = pytest.mark.parametrize("updates", ["files", "database", "tree"], indirect=True)


@pytest.fixture
def settings(data_dir: Path, updates: str) -> Settings:
    return quick_settings(data_dir, None, updates)


@pytest.fixture
def either_settings(data_dir: Path, database_url: str | None, updates: str) -> Settings:
    """Of a coordinator on SQLite or on PostgreSQL: each test runs on both."""
    return quick_settings(data_dir, database_url, updates)


async def put(storage: Storage, data: bytes) -> BlobRef:
    """Store an update."""
    path = storage.scratch / "staged"
    path.write_bytes(data)
    ref = BlobRef(sha256=sha256_hex(data), n_bytes=len(data))
    await storage.store_of(BlobKind.DELTA).put(path, ref)
    path.unlink(missing_ok=True)
    return ref


async def joined(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


async def add_task(services: Services) -> None:
    """Add a campaign with a train task."""
    async with services.database.write("test") as session:
        session.add(
            AgentRow(id="a", name="ada", labels={}, state="active", secret_hash="s", version="1", created_at=NOW)
        )
        session.add(
            CampaignRow(
                id="c", name="c", spec_json=campaign_body(), state="running", created_at=NOW, resumed_at=NOW, due_at=NOW
            )
        )
        await session.flush()
        session.add(
            TaskRow(id="t", campaign_id="c", agent_id="a", kind="train", state="leased", created_at=NOW, round=1)
        )


def use_of(ref: BlobRef) -> BlobUseRow:
    return BlobUseRow(id=ref.sha256[:32], campaign_id="c", kind="delta", round=1, task_id="t", **ref.model_dump())


def upload_of(ref: BlobRef, upload_id: str) -> UploadRow:
    return UploadRow(id=upload_id, task_id="t", purpose="delta", offset=0, updated_at=NOW, **ref.model_dump())


def test_a_blob_is_stored_read_and_deleted(settings: Settings, tmp_path: Path) -> None:
    async def work(services: Services) -> None:
        storage, store = services.storage, services.storage.store_of(BlobKind.DELTA)
        assert await store.names() == set()
        assert not await store.has(sha256_hex(DATA))
        for _ in range(2):
            ref = await put(storage, DATA)
            assert await store.has(ref.sha256)
            assert await store.names() == {ref.sha256}
        small = await put(storage, b"a small one")
        assert await store.names() == {ref.sha256, small.sha256}
        for start, end in ((0, len(DATA)), (0, 1), (CHUNK_BYTES - 3, CHUNK_BYTES + 5), (len(DATA) - 7, len(DATA))):
            assert await joined(store.read(ref, start, end)) == DATA[start:end]
        await store.check(ref)
        async with store.as_file(ref, tmp_path) as path:
            assert path.read_bytes() == DATA
        for _ in range(2):
            async with services.database.write("test") as session:
                await store.delete(session, ref.sha256)
            assert not await store.has(ref.sha256)
            assert await store.names() == {small.sha256}
        with pytest.raises(NotFound):
            await store.check(ref)
        with pytest.raises(NotFound):
            async with store.as_file(ref, tmp_path):
                pass
        assert not list(storage.scratch.iterdir())

    with_services(settings, work)


def test_other_bytes_under_a_digest_are_found(settings: Settings, tmp_path: Path) -> None:
    async def work(services: Services) -> None:
        store = services.storage.store_of(BlobKind.DELTA)
        ref = BlobRef(sha256="0" * 64, n_bytes=5)
        (tmp_path / "other").write_bytes(b"other")
        await store.put(tmp_path / "other", ref)
        with pytest.raises(CorruptBlob):
            await store.check(ref)
        with pytest.raises(CorruptBlob):
            async with store.as_file(ref, tmp_path):
                pass

    with_services(settings, work)


def test_chunks_become_a_file_and_the_longer_of_two_at_one_offset_stays(settings: Settings, tmp_path: Path) -> None:
    """Two replicas accepted a chunk each. Whichever offset was committed, its bytes are stored."""

    async def work(services: Services) -> None:
        staging = services.storage.staging
        assert await staging.names() == set()
        for offset, data in ((0, b"0123456"), (0, b"012"), (7, b"789"), (10, b"a")):
            await stage(services.storage, "one", offset, data)
        await stage(services.storage, "other", 0, b"x")
        assert await staging.names() == {"one", "other"}
        async with staging.as_file("one", tmp_path) as path:
            assert path.read_bytes() == b"0123456789a"
        for _ in range(2):
            await staging.discard("one")
            assert await staging.names() == {"other"}

    with_services(settings, work)


def test_what_no_row_names_is_an_orphan(either_settings: Settings) -> None:
    async def work(services: Services) -> None:
        storage, store = services.storage, services.storage.store_of(BlobKind.DELTA)
        await add_task(services)
        used, awaited, unknown = [await put(storage, data) for data in (b"used", b"awaited", b"unknown")]
        async with services.database.write("test") as session:
            session.add_all([use_of(used), upload_of(awaited, "live")])
        for upload_id in ("live", "gone"):
            await stage(storage, upload_id, 0, b"part")
        assert await store.orphans(storage.kinds_in(store)) == {unknown.sha256}
        assert await sweep_orphans(storage) == 2
        assert await store.names() == {used.sha256, awaited.sha256}
        assert await storage.staging.names() == {"live"}
        async with services.database.write("test") as session:
            await session.execute(update(BlobUseRow).values(stored=False))
        assert await sweep_orphans(storage) == 1
        assert await store.names() == {awaited.sha256}

    with_services(either_settings, work)


@pytest.mark.parametrize("first", ["pin", "release"])
def test_a_blob_is_pinned_or_reported_missing_in_either_order(either_settings: Settings, first: str) -> None:
    async def work(services: Services) -> bool:
        storage, store = services.storage, services.storage.store_of(BlobKind.DELTA)
        await add_task(services)
        ref = await put(storage, DATA)

        async def use() -> None:
            async with services.database.write("test") as session:
                await store.pin(session, ref.sha256)
                session.add(use_of(ref))

        if first == "pin":
            async with services.database.write("test") as session:
                await store.pin(session, ref.sha256)
                releasing = asyncio.create_task(release_blobs(storage, [(BlobKind.DELTA, ref.sha256)]))
                await asyncio.sleep(WAIT_S)
                assert not releasing.done()
                session.add(use_of(ref))
            await releasing
        else:
            async with services.database.write("test") as session:
                await store.lock(session, [ref.sha256])
                await store.delete(session, ref.sha256)
                using = asyncio.create_task(use())
                await asyncio.sleep(WAIT_S)
                assert not using.done()
            with pytest.raises(NotFound):
                await using
        return await store.has(ref.sha256)

    assert with_services(either_settings, work) == (first == "pin")


@pytest.mark.parametrize("database_url", [deep("postgres")], indirect=True)
def test_several_transactions_pin_the_same_blob(either_settings: Settings) -> None:
    async def work(services: Services) -> None:
        store = services.storage.store_of(BlobKind.DELTA)
        ref = await put(services.storage, DATA)
        async with services.database.write("test") as one, services.database.read() as other:
            for session in (one, other):
                await asyncio.wait_for(store.pin(session, ref.sha256), 10)

    with_services(either_settings, work)


def test_bytes_move_to_another_folder_entirely_or_not_at_all(settings: Settings, updates: str, tmp_path: Path) -> None:
    async def work(services: Services) -> None:
        kept, moved = (
            Storage(services.database, folder, updates=updates) for folder in (settings.data_dir, tmp_path / "work")
        )
        store = kept.store_of(BlobKind.DELTA)
        before = await put(kept, b"there before")

        async def move(*blobs: bytes, error: Exception | None = None) -> None:
            names = {(await put(moved, data)).sha256 for data in blobs}
            async with moved.moved_to(settings.data_dir):
                assert await store.names() == {before.sha256, *names}
                if error is not None:
                    raise error

        with pytest.raises(RuntimeError):
            await move(DATA, b"a small one", b"there before", error=RuntimeError())
        if updates != "database":  # rows move with the database
            assert await store.names() == {before.sha256}
        await move(DATA, b"a small one")
        for data in (DATA, b"a small one", b"there before"):
            await store.check(BlobRef(sha256=sha256_hex(data), n_bytes=len(data)))
        assert not [path for path in (tmp_path / "work").rglob("*") if path.is_file()]

    with_services(settings, work)


def test_a_message_can_say_where_the_bytes_are(settings: Settings, updates: str) -> None:
    places = {
        "files": f"{settings.data_dir / 'updates'}",
        "database": "the database",
        "tree": f"the tree {settings.data_dir / 'tree'}",
    }

    async def place(services: Services) -> str:
        return services.storage.store_of(BlobKind.DELTA).place

    assert with_services(settings, place) == places[updates]


@pytest.mark.parametrize("n_blobs", [1, 2, 3, 5])
def test_of_several_blobs_those_go_that_nothing_needs(either_settings: Settings, n_blobs: int) -> None:
    async def work(services: Services) -> None:
        storage = services.storage
        await add_task(services)
        refs = [await put(storage, bytes([number]) * 10) for number in range(n_blobs)]
        used, awaited = refs[:1], refs[1:2]
        async with services.database.write("test") as session:
            session.add_all([*map(use_of, used), *(upload_of(ref, "u") for ref in awaited)])
        await release_blobs(storage, [(BlobKind.DELTA, ref.sha256) for ref in refs])
        store = storage.store_of(BlobKind.DELTA)
        assert [ref for ref in refs if await store.has(ref.sha256)] == [*used, *awaited]

    with_services(either_settings, work)


def test_an_upload_whose_bytes_are_gone_is_no_empty_file(either_settings: Settings) -> None:
    async def work(services: Services) -> None:
        async def read() -> bytes:
            async with services.storage.staging.as_file("gone", services.storage.scratch) as path:
                return path.read_bytes()

        with pytest.raises(FileNotFoundError):
            await read()

    with_services(either_settings, work)
