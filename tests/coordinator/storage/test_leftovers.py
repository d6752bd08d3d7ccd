"""Leftovers of killed processes are found and deleted, and nothing else is."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.database.tables import BlobChunkRow
from coordinator.engine.sweeper import Sweeper
from coordinator.storage import scratch
from coordinator.storage.orphans import sweep_orphans
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.stored import stage
from tests.support.suite.tiers import EACH_STORE

Enroll = Callable[..., ScriptedAgent]


def put(running: RunningCoordinator, kind: BlobKind, data: bytes) -> str:
    """Store a blob that no row references."""
    path = running.services.storage.scratch / sha256_hex(data)
    path.write_bytes(data)
    ref = BlobRef(sha256=path.name, n_bytes=len(data))
    running.run(running.services.storage.store_of(kind).put(path, ref))
    path.unlink(missing_ok=True)
    return ref.sha256


def has(running: RunningCoordinator, kind: BlobKind, sha256: str) -> bool:
    return running.run(running.services.storage.store_of(kind).has(sha256))


async def add_chunks(running: RunningCoordinator, *blobs: str) -> None:
    async with running.services.database.write("test") as session:
        session.add_all([BlobChunkRow(blob=blob, offset=0, data=b"half of it") for blob in blobs])


async def count_chunks(running: RunningCoordinator, blob: str) -> bool:
    async with running.services.database.read() as session:
        return await session.get(BlobChunkRow, (blob, 0)) is not None


@EACH_STORE
def test_only_unreferenced_data_is_deleted(
    data_dir: Path, database_url: str | None, tmp_path: Path, updates: str
) -> None:
    with running_coordinator(quick_settings(data_dir, database_url, updates), with_engine=True) as running:
        operator = Operator(running.url, running.key)
        ada, bob = (ScriptedAgent(running.url, operator.token(), name) for name in ("ada", "bob"))
        campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2)
        ada.train(adapter_bytes(tmp_path, 1.0))
        lease = bob.lease("train")
        half = adapter_bytes(tmp_path, 2.0)
        upload = bob.start_upload(lease, "delta", half).json()
        assert bob.send_chunk(lease, upload["id"], 0, half[:50]).status_code == 204

        orphans = [(BlobKind.ADAPTER, put(running, BlobKind.ADAPTER, b"an adapter that no round took"))]
        orphans.append((BlobKind.DELTA, put(running, BlobKind.DELTA, b"an update that did not count")))
        gone_upload = f"upload:{'0' * 32}"
        running.run(add_chunks(running, "f" * 64, gone_upload))
        running.run(stage(running.services.storage, "nobodys", 0, b"chunk"))
        assert running.run(sweep_orphans(running.services.storage)) == 5
        assert running.run(sweep_orphans(running.services.storage)) == 0
        assert not any(has(running, kind, sha256) for kind, sha256 in orphans)
        assert running.run(running.services.storage.staging.names()) == {upload["id"]}
        assert not running.run(count_chunks(running, gone_upload))
        assert not running.run(count_chunks(running, "f" * 64))

        assert bob.send_chunk(lease, upload["id"], 50, half[50:]).status_code == 204
        assert bob.result(lease, bob.train_result(sha256_hex(half))).status_code == 200
        for agent in (ada, bob):
            agent.train(adapter_bytes(tmp_path, 3.0))
        operator.wait_for(campaign_id, "completed")
        for agent in (ada, bob):
            agent.http.close()


def test_blobs_of_a_running_aggregation_are_not_deleted(data_dir: Path, tmp_path: Path) -> None:
    with running_coordinator(quick_settings(data_dir, None), with_engine=False) as running:
        operator = Operator(running.url, running.key)
        ada = ScriptedAgent(running.url, operator.token(), "ada")
        sha256 = put(running, BlobKind.ADAPTER, b"about to be an adapter")
        running.run(add_chunks(running, "e" * 64))
        running.run(_set_up_an_aggregation(running))
        assert running.run(sweep_orphans(running.services.storage)) == 0
        assert has(running, BlobKind.ADAPTER, sha256)
        assert running.run(count_chunks(running, "e" * 64))
        ada.http.close()


async def _set_up_an_aggregation(running: RunningCoordinator) -> None:
    from coordinator.database.tables import CampaignRow, RoundRow

    now = running.clock.now()
    async with running.services.database.write("test") as session:
        session.add(
            CampaignRow(
                id="c", name="c", spec_json={}, state="running", created_at=now, resumed_at=now, rounds_closed=0
            )
        )
        await session.flush()
        session.add(
            RoundRow(
                campaign_id="c",
                number=1,
                state="aggregating",
                opened_at=now,
                deadline_at=now,
                learning_rate=1.0,
                eligible=[],
                sampled=[],
            )
        )


def test_scratch_files_of_dead_processes_are_deleted_and_those_in_use_stay(tmp_path: Path) -> None:
    left, young = tmp_path / "left", tmp_path / "young"
    left.mkdir()
    (left / "adapter.safetensors").write_bytes(b"half")
    (tmp_path / "file").write_bytes(b"half")
    young.write_bytes(b"")
    with scratch.scratch_folder(tmp_path) as folder, scratch.scratch_file(tmp_path) as file:
        long_ago = time.time() - 3600
        for path in (left, tmp_path / "file", folder, Path(file.name)):
            os.utime(path, (long_ago, long_ago))
        assert scratch.clear(tmp_path) == 2
        assert {path.name for path in tmp_path.iterdir()} == {"young", folder.name, Path(file.name).name}
    assert [path.name for path in tmp_path.iterdir()] == ["young"]


def test_a_lock_protects_scratch_files_of_another_process(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"")
    os.utime(tmp_path / "theirs", (0, 0))
    with (tmp_path / "theirs").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            os._exit(scratch.clear(tmp_path))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert scratch.clear(tmp_path) == 1


def test_a_search_that_failed_is_repeated_with_the_next_sweep(coordinator: RunningCoordinator) -> None:
    orphan = put(coordinator, BlobKind.ADAPTER, b"an adapter that no round took")
    sweeper, folder = Sweeper(coordinator.services), coordinator.services.storage.scratch
    folder.rename(folder.with_name("away"))
    with pytest.raises(FileNotFoundError):
        coordinator.run(sweeper.sweep())
    folder.with_name("away").rename(folder)
    put(coordinator, BlobKind.ADAPTER, b"an adapter that no round took")
    coordinator.run(sweeper.sweep())
    assert not has(coordinator, BlobKind.ADAPTER, orphan)
    put(coordinator, BlobKind.ADAPTER, b"an adapter that no round took")
    coordinator.run(sweeper.sweep())
    assert has(coordinator, BlobKind.ADAPTER, orphan), "searches are rare"
