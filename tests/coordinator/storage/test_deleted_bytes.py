"""Updates in SQLite: once released, their bytes are in none of its files."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from coordinator.database.sessions import Database
from coordinator.database.tables import BlobUseRow
from coordinator.engine.sweeper import Sweeper
from coordinator.settings import Settings
from coordinator.storage.retention import release_blobs
from coordinator.storage.stores import CHUNK_BYTES
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from tests.support.driven import DrivenCampaign, delta_of
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.stored import stage

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return partial(quick_settings, updates="database")


@pytest.fixture
def pinned(coordinator: RunningCoordinator) -> Iterator[sqlite3.Connection]:
    """A reader of another process, such as a backup, in the middle of a transaction."""
    with closing(sqlite3.connect(coordinator.services.settings.data_dir / "fedloom.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM blob_chunks").fetchone()
        yield reader


def files_with(running: RunningCoordinator, *parts: bytes) -> set[str]:
    """The names of SQLite's files that contain one of the parts."""
    files = list(running.services.settings.data_dir.glob("fedloom.db*"))
    assert {"fedloom.db", "fedloom.db-wal"} <= {file.name for file in files}
    raw = {file.name: file.read_bytes() for file in files}
    return {name for name, data in raw.items() for part in parts if part in data}


def parts_of(*deltas: dict[str, np.ndarray]) -> list[bytes]:
    """The bytes of every tensor of deltas, as they are in their files."""
    return [values.tobytes() for delta in deltas for values in delta.values()]


def put(running: RunningCoordinator, data: bytes) -> str:
    """Store an update that no campaign uses."""
    storage, ref = running.services.storage, BlobRef(sha256=sha256_hex(data), n_bytes=len(data))
    path = storage.scratch / "staged"
    path.write_bytes(data)
    running.run(storage.store_of(BlobKind.DELTA).put(path, ref))
    path.unlink()
    return ref.sha256


def clear(running: RunningCoordinator) -> None:
    """Clear the log. The engine's own reads may be in the way for a moment."""
    Operator.wait_until(lambda: running.run(running.services.database.clear_log()), bool)


def test_updates_are_gone_from_the_files_once_their_round_has_closed(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], rounds=3, retention={"updates": 1})
    for number in (1, 2):
        campaign.wait_until_open(number)
        for agent in (ada, bob):
            campaign.train(agent)
            if agent is ada:
                assert files_with(coordinator, *parts_of(delta_of("ada", number)))
    campaign.wait_until_open(3)
    released, kept = ([delta_of(name, number) for name in ("ada", "bob")] for number in (1, 2))
    operator.wait_until(lambda: files_with(coordinator, *parts_of(*released)), lambda found: not found)
    assert files_with(coordinator, *parts_of(*kept)), "retention.updates keeps these"
    ada.lease("train")
    campaign.move("cancel")
    operator.wait_until(lambda: files_with(coordinator, *parts_of(*released)), lambda found: not found)


def test_an_update_that_a_cancelled_round_had_is_gone_with_the_next_sweep(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob])
    campaign.train(ada)
    staged = delta_of("bob", 1)
    upload = bob.start_upload(
        lease := bob.lease("train"), "delta", whole := b"".join(parts_of(staged)).ljust(256)
    ).json()
    assert bob.send_chunk(lease, upload["id"], 0, whole).is_success
    parts = parts_of(delta_of("ada", 1), staged)
    assert files_with(coordinator, *parts)
    campaign.move("cancel")
    operator.wait_until(lambda: files_with(coordinator, *parts), lambda found: not found)


@pytest.mark.parametrize(("n_bytes", "neighbours"), [(100, 3), (5000, 3), (CHUNK_BYTES + 5000, 1)])
def test_every_page_of_a_deleted_update_is_overwritten(data_dir: Path, n_bytes: int, neighbours: int) -> None:
    """Beside others that stay: the first bytes of a chunk share a page with them, the rest have pages of their own."""
    noise = np.random.default_rng(n_bytes)
    # without an engine, whose first sweep would find that no campaign uses any of them
    with running_coordinator(quick_settings(data_dir, None, "database"), with_engine=False) as coordinator:
        stays = [put(coordinator, noise.bytes(n_bytes)) for _ in range(neighbours)]
        data = noise.bytes(n_bytes)
        goes = put(coordinator, data)
        stays += [put(coordinator, noise.bytes(n_bytes)) for _ in range(neighbours)]
        pieces = [data[start : start + 16] for start in range(0, n_bytes - 16, max(16, n_bytes // 60))]
        assert files_with(coordinator, *pieces)
        storage = coordinator.services.storage
        coordinator.run(release_blobs(storage, [(BlobKind.DELTA, goes)]))
        clear(coordinator)
        assert not files_with(coordinator, *pieces)
        for sha256 in stays:
            coordinator.run(storage.store_of(BlobKind.DELTA).check(BlobRef(sha256=sha256, n_bytes=n_bytes)))


@pytest.mark.parametrize("as_update_too", [False, True])
def test_an_adapter_is_freed_and_overwritten_if_it_is_an_update_too(
    coordinator: RunningCoordinator, operator: Operator, as_update_too: bool
) -> None:
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    data = np.random.default_rng(1).bytes(CHUNK_BYTES + 5000)
    sha256 = sha256_hex(data)
    kinds = [BlobKind.ADAPTER, *([BlobKind.DELTA] if as_update_too else [])]
    use = {"campaign_id": campaign_id, "round": 1, "sha256": sha256, "n_bytes": len(data), "stored": False}

    async def add_uses() -> None:
        async with coordinator.services.database.write("test") as session:
            session.add_all([BlobUseRow(id=kind, kind=kind, **use) for kind in kinds])

    coordinator.run(add_uses())
    assert put(coordinator, data) == sha256
    coordinator.run(release_blobs(coordinator.services.storage, [(BlobKind.ADAPTER, sha256)]))
    clear(coordinator)
    assert bool(files_with(coordinator, data[CHUNK_BYTES // 2 :][:64])) is not as_update_too
    other = put(coordinator, b"an update" * 600)  # the connection overwrites again
    coordinator.run(release_blobs(coordinator.services.storage, [(BlobKind.DELTA, other)]))
    clear(coordinator)
    assert not files_with(coordinator, b"an update" * 3)


def test_a_reader_in_the_way_delays_it_until_a_later_sweep_and_stops_nobody(
    coordinator: RunningCoordinator, operator: Operator, pinned: sqlite3.Connection
) -> None:
    data = np.random.default_rng(1).bytes(3000)
    services = coordinator.services
    goes = put(coordinator, data)
    coordinator.run(release_blobs(services.storage, [(BlobKind.DELTA, goes)]))
    assert not coordinator.run(services.database.clear_log())
    assert files_with(coordinator, data[:500])
    operator.token()  # writers go on
    pinned.rollback()
    coordinator.run(Sweeper(services).sweep())
    assert not files_with(coordinator, data[:500])


def test_a_process_without_an_engine_clears_what_it_deleted(data_dir: Path) -> None:
    """Such as the chunks of an upload, beside an engine in a process of its own."""
    with running_coordinator(quick_settings(data_dir, None, "database"), with_engine=False) as running:
        data, storage = np.random.default_rng(3).bytes(3000), running.services.storage
        running.run(stage(storage, "an-upload", 0, data))
        assert files_with(running, data[:500])
        running.run(storage.staging.discard("an-upload"))
        Operator.wait_until(lambda: files_with(running, data[:500]), lambda found: not found)


def test_the_log_is_cut_only_if_something_was_deleted(coordinator: RunningCoordinator, operator: Operator) -> None:
    services = coordinator.services
    log = services.settings.data_dir / "fedloom.db-wal"
    clear(coordinator)
    operator.token()
    n_bytes = log.stat().st_size
    assert n_bytes > 0
    clear(coordinator)
    assert log.stat().st_size >= n_bytes
    coordinator.run(release_blobs(services.storage, [(BlobKind.DELTA, put(coordinator, b"an update"))]))
    clear(coordinator)
    assert log.stat().st_size == 0


def test_what_a_process_left_in_the_log_is_cut_by_the_next_one(data_dir: Path) -> None:
    """It died after the deletion: the next one knows nothing of it, and has a look."""
    settings = quick_settings(data_dir, None, "database")
    data = np.random.default_rng(2).bytes(3000)
    with closing(sqlite3.connect(data_dir / "fedloom.db")) as dead:
        dead.execute("PRAGMA journal_mode=WAL")
        dead.execute("PRAGMA secure_delete=ON")
        with dead:
            dead.execute("INSERT INTO blob_chunks VALUES ('gone', 0, ?)", (data,))
        with dead:
            dead.execute("DELETE FROM blob_chunks")
        assert data[:500] in (data_dir / "fedloom.db-wal").read_bytes()

        async def start() -> bool:
            database = Database(settings.database)
            try:
                return await database.clear_log()
            finally:
                await database.close()

        assert asyncio.run(start())
        assert (data_dir / "fedloom.db-wal").read_bytes() == b""
        assert data[:500] not in (data_dir / "fedloom.db").read_bytes()
