"""Updates stored in the database, for replicas without a shared folder: the behaviour is the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from coordinator.settings import Settings, StorageSettings
from shared.digest import sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator


@pytest.fixture
def settings(data_dir: Path, database_url: str | None) -> Settings:
    storage = StorageSettings(updates="database")
    return quick_settings(data_dir, database_url).model_copy(update={"storage": storage})


@pytest.fixture
def running(settings: Settings) -> Iterator[RunningCoordinator]:
    with running_coordinator(settings) as coordinator:
        yield coordinator


def test_a_campaign_goes_as_with_files(running: RunningCoordinator, tmp_path: Path) -> None:
    operator = Operator(running.url, running.key)
    ada, bob = (ScriptedAgent(running.url, operator.token(), name) for name in ("ada", "bob"))
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2, retention={"updates": 1})
    delta = adapter_bytes(tmp_path, 1.0)
    lease = ada.lease("train")
    upload_id = ada.start_upload(lease, "delta", delta).json()["id"]
    for start, end in ((0, 50), (50, 51), (51, len(delta))):
        corrupt = ada.send_chunk(lease, upload_id, start, b"x", **{"Content-Digest": "sha-256=::"})
        assert problem(corrupt).kind == "bad-chunk"
        assert ada.send_chunk(lease, upload_id, start, delta[start:end]).headers["Upload-Offset"] == str(end)
    lease = ada.lease("train")
    assert ada.start_upload(lease, "delta", delta).json()["offset"] == len(delta)
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200
    assert operator.http.get(f"/v1/blobs/{sha256_hex(delta)}", headers={"Range": "bytes=9-20"}).content == delta[9:21]
    bob.train(adapter_bytes(tmp_path, 3.0))
    ada.train(adapter_bytes(tmp_path, 5.0))
    lease = bob.lease("train")
    bob.send_chunk(lease, bob.start_upload(lease, "delta", delta).json()["id"], 0, delta[:9])
    bob.train(adapter_bytes(tmp_path, 7.0), lease)
    operator.wait_for(campaign_id, "completed")

    async def left() -> list[str]:
        async with running.services.database.read() as session:
            return list((await session.scalars(text("SELECT DISTINCT blob FROM blob_chunks ORDER BY blob"))).all())

    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    expected = [row["blob"]["sha256"] for row in adapters]
    expected += [share["update_sha256"] for share in adapters[2]["contributions"]]
    assert operator.wait_until(lambda: running.run(left()), lambda found: len(found) == 5) == sorted(expected)
    assert not list(running.services.storage.scratch.iterdir())
    for agent in (ada, bob):
        agent.http.close()


def test_the_longer_of_two_chunks_at_one_offset_stays(settings: Settings, tmp_path: Path) -> None:
    """Two replicas accepted a chunk each. Whichever offset was committed, its bytes are stored."""
    # no engine: its first sweep would delete chunks without an upload row
    with running_coordinator(settings, with_engine=False) as running:
        staging = running.services.storage.staging

        async def work() -> bytes:
            await staging.write("one", 0, b"0123456")
            await staging.write("one", 0, b"012")
            await staging.write("one", 7, b"7")
            async with staging.as_file("one", tmp_path) as path:
                return path.read_bytes()

        assert running.run(work()) == b"01234567"
