"""Blobs as rows: complete or absent, even if others store and release the same blob concurrently."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coordinator.database.sessions import Database
from coordinator.database.tables import BlobRow
from coordinator.errors import NotFound
from coordinator.settings import Settings
from coordinator.storage.database_store import DatabaseStore
from coordinator.storage.stores import CHUNK_BYTES
from shared.digest import sha256_hex
from shared.wire.base import BlobRef


class Overtaken(DatabaseStore):
    """Another process stores the same blob, and releases it, once all our chunks are written."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        super().__init__(database, data_dir)
        self.n_times = 0

    async def _put_chunks(self, path: Path, ref: BlobRef) -> dict[str, Any]:
        last = await super()._put_chunks(path, ref)
        self.n_times += 1
        if self.n_times == 1:
            async with self._database.write("test") as session:
                session.add(BlobRow(sha256=ref.sha256, n_bytes=ref.n_bytes))
            async with self._database.write("test") as session:
                await self.delete(session, ref.sha256)
        return last


def test_a_blob_released_during_a_put_is_put_again(data_dir: Path, database_url: str | None, tmp_path: Path) -> None:
    data = bytes(range(256)) * (CHUNK_BYTES // 256) + b"and a little more"
    ref = BlobRef(sha256=sha256_hex(data), n_bytes=len(data))
    (tmp_path / "blob").write_bytes(data)

    async def run() -> tuple[int, bytes]:
        database = Database(Settings(data_dir=data_dir, database_url=database_url).database)
        try:
            store = Overtaken(database, data_dir)
            await store.put(tmp_path / "blob", ref)
            found = b"".join([piece async for piece in store.read(ref, 0, ref.n_bytes)])
            async with database.write("test") as session:
                await store.delete(session, ref.sha256)
            with pytest.raises(NotFound):
                await store.check(ref)
            return store.n_times, found
        finally:
            await database.close()

    n_times, found = asyncio.run(run())
    assert n_times == 2
    assert found == data
