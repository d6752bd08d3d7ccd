"""Assigns blobs to stores."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from coordinator.database.sessions import Database
from coordinator.storage.database_store import DatabaseStaging, DatabaseStore
from coordinator.storage.file_store import FileStaging, FileStore
from coordinator.storage.local_copies import LocalCopies
from coordinator.storage.stores import BlobStore, Staging
from shared.states import BlobKind

STORES: dict[str, tuple[type[BlobStore], type[Staging]]] = {
    "files": (FileStore, FileStaging),
    "database": (DatabaseStore, DatabaseStaging),
}
"""Where updates and uploads may be stored, by the name that the setting ``storage.updates`` gives."""


class Storage:
    """Assigns blobs to stores by kind: updates are many and short-lived, adapters belong beside their lineage.

    database: where adapters are, and the rows of all blobs. updates: a name in STORES.
    """

    def __init__(self, database: Database, data_dir: Path, *, updates: str) -> None:
        self.database = database
        self.data_dir = data_dir
        self.scratch = data_dir / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        of_updates, staging = STORES[updates]
        # one of each class: kinds in one store share equal bytes
        classes: list[type[BlobStore]] = [DatabaseStore, of_updates]
        opened = {each: each(database, data_dir) for each in dict.fromkeys(classes)}
        opened[DatabaseStore].of_clients = of_updates is DatabaseStore
        self._adapters, self._updates = opened[DatabaseStore], opened[of_updates]
        self.stores = list(opened.values())
        self.staging = staging(database, data_dir)
        self.copies = LocalCopies(self.scratch)

    def store_of(self, kind: BlobKind) -> BlobStore:
        """The store of blobs of a kind."""
        return self._updates if kind.is_of_one_client else self._adapters

    def kinds_in(self, store: BlobStore) -> list[BlobKind]:
        """The kinds of blobs in a store. It keeps equal bytes of these kinds once."""
        return [kind for kind in BlobKind if self.store_of(kind) is store]

    @asynccontextmanager
    async def moved_to(self, data_dir: Path) -> AsyncIterator[None]:
        """Move the bytes of all stores to another data folder. Undone if the block raises."""
        async with AsyncExitStack() as stack:
            for store in self.stores:
                await stack.enter_async_context(store.moved_to(data_dir))
            yield

    @property
    def free_bytes(self) -> int:
        """Free bytes on the data folder's disk."""
        return shutil.disk_usage(self.data_dir).free
