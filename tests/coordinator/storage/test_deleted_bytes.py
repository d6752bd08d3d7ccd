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
from coordinator.engine import loop
from coordinator.engine.sweeper import Sweeper
from coordinator.settings import Settings
from coordinator.storage.retention import release_blobs
from coordinator.storage.stores import CHUNK_BYTES
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from tests.support.driven import DrivenCampaign, delta_of
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
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


def put_adapter(running: RunningCoordinator, campaign_id: str, number: int, data: bytes) -> str:
    """Store bytes that were a campaign's adapter, which it no longer keeps."""
    storage = running.services.storage
    ref = BlobRef(sha256=sha256_hex(data), n_bytes=len(data))

    async def store() -> None:
        (path := storage.scratch / "adapter").write_bytes(data)
        await storage.store_of(BlobKind.ADAPTER).put(path, ref)
        use = {"id": f"use-{number}", "campaign_id": campaign_id, "kind": BlobKind.ADAPTER, "round": number}
        async with storage.database.write("test") as session:
            session.add(BlobUseRow(**use, **ref.model_dump(), stored=False))

    running.run(store())
    return ref.sha256


@pytest.mark.parametrize(("n_bytes", "adapter_bytes"), [(3000, 3000), (6000, 20_000), (80_700, 322_800)])
def test_no_page_of_an_update_outlives_adapters_beside_it(
    coordinator: RunningCoordinator, operator: Operator, n_bytes: int, adapter_bytes: int
) -> None:
    """SQLite joins pages when rows go, so what is left of an update may have lain elsewhere before."""
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    noise = np.random.default_rng(n_bytes)
    storage = coordinator.services.storage
    updates, adapters = [], []
    for number in range(8):
        updates.append(noise.bytes(n_bytes))
        put(coordinator, updates[-1])
        adapters.append(put_adapter(coordinator, campaign_id, number, noise.bytes(adapter_bytes)))
    for data, adapter in zip(updates, adapters, strict=True):
        coordinator.run(release_blobs(storage, [(BlobKind.ADAPTER, adapter)]))
        coordinator.run(release_blobs(storage, [(BlobKind.DELTA, sha256_hex(data))]))
    clear(coordinator)
    pieces = [data[at : at + 16] for data in updates for at in range(0, n_bytes - 16, 500)]
    assert not files_with(coordinator, *pieces)


def test_adapters_are_freed_where_updates_are_files(data_dir: Path) -> None:
    with running_coordinator(quick_settings(data_dir, None, "files")) as coordinator:
        operator = Operator(coordinator.url, coordinator.key)
        campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
        data, storage = np.random.default_rng(1).bytes(CHUNK_BYTES + 5000), coordinator.services.storage
        adapter = put_adapter(coordinator, campaign_id, 1, data)
        coordinator.run(release_blobs(storage, [(BlobKind.ADAPTER, adapter)]))
        assert not coordinator.run(storage.store_of(BlobKind.ADAPTER).has(adapter))
        coordinator.run(put_and_release_state(coordinator, state := b"a state" * 600))
        clear(coordinator)
        assert files_with(coordinator, data[CHUNK_BYTES // 2 :][:64])
        assert not files_with(coordinator, state[:64]), "the connection overwrites again"


async def put_and_release_state(running: RunningCoordinator, data: bytes) -> None:
    storage, ref = running.services.storage, BlobRef(sha256=sha256_hex(data), n_bytes=len(data))
    (path := storage.scratch / "state").write_bytes(data)
    await storage.store_of(BlobKind.SERVER_STATE).put(path, ref)
    await release_blobs(storage, [(BlobKind.SERVER_STATE, ref.sha256)])


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


@pytest.mark.parametrize("updates", ["files", "database"])
def test_a_coordinator_that_ends_with_its_campaign_leaves_no_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, updates: str
) -> None:
    """It is stopped while the agents of a closed round still have time for their next tasks."""
    monkeypatch.setattr(loop, "_TASKS_S", 60.0)
    (data_dir := tmp_path / "data").mkdir()
    deltas = {name: delta_of(name, 1) for name in ("ada", "bob")}
    with running_coordinator(quick_settings(data_dir, None, updates)) as coordinator:
        operator = Operator(coordinator.url, coordinator.key)
        operator.post("/v1/campaigns", campaign_body(rounds=1, selection={"minimum": 2}, retention={"updates": 0}))
        agents = [ScriptedAgent(coordinator.url, operator.token(), name) for name in deltas]
        for agent in agents:
            agent.prepare()
        agents[0].init(adapter_bytes(tmp_path))
        for agent in agents:
            agent.train(adapter_bytes(tmp_path, **deltas[agent.name]))
        round_closed = f"/v1/campaigns/{operator.get('/v1/campaigns')['items'][0]['id']}/adapters/1"
        operator.wait_until(lambda: operator.http.get(round_closed).is_success, bool)
    for agent in agents:
        agent.http.close()
    assert not [path for path in (data_dir / "updates").rglob("*") if path.is_file()]
    raw = b"".join(file.read_bytes() for file in data_dir.glob("fedloom.db*"))
    assert not [part for part in parts_of(*deltas.values()) if part in raw]
