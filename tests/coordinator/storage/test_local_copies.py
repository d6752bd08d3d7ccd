"""Downloads read an adapter from the database once, and nobody reads what he may not or what is gone."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from coordinator.database.tables import BlobChunkRow
from coordinator.errors import StorageFull
from coordinator.storage import local_copies
from coordinator.storage.database_store import DatabaseStore
from coordinator.storage.retention import release_blobs
from shared.adapters.files import write_adapter
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]
A, B = (2, 99_000), (1_000, 2)


@pytest.fixture
def ada(enroll: Enroll) -> ScriptedAgent:
    return enroll("ada")


@pytest.fixture
def adapter(operator: Operator, ada: ScriptedAgent, tmp_path: Path) -> bytes:
    """Adapter 0 of a campaign of one round, larger than what is sent at once."""
    operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
    ada.prepare()
    noise = np.random.default_rng(1).standard_normal(A).astype(np.float32)
    write_adapter(tmp_path / "large", {"m.lora_A.weight": noise, "m.lora_B.weight": np.zeros(B, np.float32)})
    data = (tmp_path / "large").read_bytes()
    ada.init(data)
    return data


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The blobs that were read from the database, by digest."""
    digests: list[str] = []
    read = DatabaseStore.read

    def noted(store: DatabaseStore, ref: BlobRef, start: int, end: int) -> AsyncIterator[bytes]:
        digests.append(ref.sha256)
        return read(store, ref, start, end)

    monkeypatch.setattr(DatabaseStore, "read", noted)
    return digests


def get(operator: Operator, adapter: bytes, wanted: str = "bytes=0-") -> Any:
    return operator.http.get(f"/v1/blobs/{sha256_hex(adapter)}", headers={"Range": wanted})


@pytest.mark.usefixtures("coordinator")
def test_many_downloads_read_the_database_once(operator: Operator, adapter: bytes, reads: list[str]) -> None:
    reads.clear()
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: get(operator, adapter), range(6)))
    assert all(reply.content == adapter for reply in replies)
    assert get(operator, adapter, "bytes=5000-").content == adapter[5000:]
    assert reads == [sha256_hex(adapter)]


@pytest.mark.usefixtures("coordinator")
def test_a_rounds_adapter_is_sent_from_the_file_that_was_aggregated(
    operator: Operator, ada: ScriptedAgent, adapter: bytes, reads: list[str]
) -> None:
    lease = ada.lease("train")
    ada.train(adapter, lease)
    campaign_id = lease["assignment"]["campaign_id"]
    operator.wait_for(campaign_id, "completed")
    blob = operator.get(f"/v1/campaigns/{campaign_id}/adapters/1")["blob"]
    reads.clear()
    assert sha256_hex(operator.http.get(f"/v1/blobs/{blob['sha256']}").content) == blob["sha256"]
    assert reads == []


@pytest.mark.usefixtures("coordinator")
def test_a_round_is_aggregated_from_the_copy_of_its_parent(
    operator: Operator, ada: ScriptedAgent, adapter: bytes, reads: list[str]
) -> None:
    assert get(operator, adapter).content == adapter
    reads.clear()
    lease = ada.lease("train")
    ada.train(adapter, lease)
    operator.wait_for(lease["assignment"]["campaign_id"], "completed")
    assert reads == []


def test_a_copy_that_was_damaged_is_not_aggregated_from(
    coordinator: RunningCoordinator, operator: Operator, adapter: bytes, reads: list[str]
) -> None:
    assert get(operator, adapter).content == adapter
    storage, ref = coordinator.services.storage, BlobRef(sha256=sha256_hex(adapter), n_bytes=len(adapter))

    async def read() -> bytes:
        (copy,) = storage.copies._copies.values()
        with copy.path.open("r+b") as file:
            file.write(b"damage")
        async with storage.copies.as_file(storage.store_of(BlobKind.ADAPTER), ref) as path:
            return path.read_bytes()

    reads.clear()
    assert coordinator.run(read()) == adapter
    assert reads == [ref.sha256]


def test_a_released_blob_is_gone_although_there_is_a_copy(
    coordinator: RunningCoordinator, operator: Operator, adapter: bytes
) -> None:
    assert get(operator, adapter).content == adapter
    storage, sha256 = coordinator.services.storage, sha256_hex(adapter)

    async def delete() -> None:
        async with storage.database.write("test") as session:
            await storage.store_of(BlobKind.ADAPTER).delete(session, sha256)

    coordinator.run(delete())
    assert get(operator, adapter).status_code == 404
    coordinator.run(release_blobs(storage, [(BlobKind.ADAPTER, sha256)]))


def test_a_corrupt_blob_is_told_before_its_first_byte(
    coordinator: RunningCoordinator, operator: Operator, adapter: bytes
) -> None:
    async def damage() -> None:
        async with coordinator.services.database.write("test") as session:
            await session.execute(update(BlobChunkRow).values(data=bytes(len(adapter))))

    coordinator.run(damage())
    reply = get(operator, adapter)
    assert (reply.status_code, problem(reply).kind) == (500, "corrupt-blob")


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize("why", ["too large", "disk full"])
def test_without_a_copy_it_comes_from_the_database(
    operator: Operator, adapter: bytes, reads: list[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    async def full(*_: object) -> None:
        raise StorageFull

    if why == "too large":
        monkeypatch.setattr(local_copies, "_ALL_TOGETHER", len(adapter) - 1)
    else:
        monkeypatch.setattr(local_copies.LocalCopies, "_make", full)
    reads.clear()
    for _ in range(2):
        assert get(operator, adapter).content == adapter
    assert reads == [sha256_hex(adapter)] * 2


def test_copies_are_bounded_and_go_after_a_while(
    coordinator: RunningCoordinator, operator: Operator, adapter: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = coordinator.services.storage.copies
    monkeypatch.setattr(local_copies, "_LIVES_S", 0.2)
    assert get(operator, adapter).content == adapter
    operator.wait_until(lambda: dict(copies._copies), lambda found: not found)
    monkeypatch.setattr(local_copies, "_LIVES_S", 60.0)
    monkeypatch.setattr(local_copies, "_ALL_TOGETHER", len(adapter) + 1)
    assert get(operator, adapter).content == adapter

    async def another() -> set[str]:
        storage, data = coordinator.services.storage, b"x" * 1000
        ref, path = BlobRef(sha256=sha256_hex(data), n_bytes=len(data)), storage.scratch / "staged"
        path.write_bytes(data)
        await storage.store_of(BlobKind.ADAPTER).put(path, ref)
        copy = await copies.find(storage.store_of(BlobKind.ADAPTER), ref)
        assert copy is not None
        assert copy.read(0, 10) == data[:10]
        return set(copies._copies)

    assert coordinator.run(another()) == {sha256_hex(b"x" * 1000)}, "the least recently used went"
