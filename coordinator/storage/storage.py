"""Assigns blobs to stores."""

import shutil
from pathlib import Path

from coordinator.database.sessions import Database
from coordinator.storage.database_store import DatabaseStaging, DatabaseStore
from coordinator.storage.file_store import FileStaging, FileStore
from coordinator.storage.stores import BlobStore, Staging
from shared.states import BlobKind


class Storage:
    """Assigns blobs to stores by kind: updates are many and short-lived, adapters belong beside their lineage."""

    def __init__(self, database: Database, data_dir: Path, *, updates: str) -> None:
        self.database = database
        self.scratch = data_dir / "scratch"
        self.data_dir = data_dir
        folders = [self.scratch]
        self._adapters: BlobStore = DatabaseStore(database)
        self._updates: BlobStore = self._adapters
        self.staging: Staging = DatabaseStaging(database)
        if updates == "files":
            self._updates = FileStore(data_dir / "updates")
            self.staging = FileStaging(data_dir / "uploads")
            folders += [data_dir / "updates", data_dir / "uploads"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)

    def store_of(self, kind: BlobKind) -> BlobStore:
        """The store of blobs of a kind."""
        return self._updates if kind in (BlobKind.DELTA, BlobKind.EXTRAS) else self._adapters

    def kinds_sharing_store(self, kind: BlobKind) -> list[BlobKind]:
        """All kinds in the store of a kind, including it. The store keeps equal bytes of these kinds once."""
        return [other for other in BlobKind if self.store_of(other) is self.store_of(kind)]

    @property
    def free_bytes(self) -> int:
        """Free bytes on the data folder's disk."""
        return shutil.disk_usage(self.data_dir).free
