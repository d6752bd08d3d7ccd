"""Makes a coordinator's data of a backup: all of it, or nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from sqlalchemy import delete, inspect, literal, select, table, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.backup.archive import ArchiveReader, Manifest, reading
from coordinator.backup.errors import NotEmpty, NotRestored
from coordinator.backup.places import UPDATES, place_of, sqlite_file, work_folder
from coordinator.backup.rows import BYTES, copy_rows, settle, sqlite_at, tables_of
from coordinator.backup.saving import Show
from coordinator.database.migrate import migrate
from coordinator.database.sessions import Database
from coordinator.database.tables import Base, BlobChunkRow, BlobRow, BlobUseRow, CampaignRow, VerificationRow
from coordinator.disk_full import translate_disk_full
from coordinator.settings import Settings
from coordinator.storage.storage import Storage
from shared import crash_points
from shared.durable import sync_folder
from shared.wire.base import BlobRef


def restore(settings: Settings, file: Path, *, show: Show = lambda *_: None) -> Manifest:
    """Make a backup the data of a coordinator that does not run yet; what was in it.

    Its database must not be there, or be empty. The schema becomes the newest, and bytes are put where the settings
    say, wherever they came from. Raises BackupError, UnknownSchema, StorageFull and OSError, and leaves nothing behind
    then; what a killed process left goes with the next try.
    """
    return asyncio.run(_restore(settings, file, show))


async def _restore(settings: Settings, file: Path, show: Show) -> Manifest:
    n_done = 0

    def tell(n_bytes: int) -> None:
        nonlocal n_done
        n_done += n_bytes
        show(min(n_done, archive.n_bytes), archive.n_bytes)

    try:
        with reading(file, tell) as archive, translate_disk_full():
            restoring = _Restoring(settings, archive)
            await (restoring.into_sqlite() if sqlite_file(settings) is not None else restoring.into_postgres())
            return archive.manifest
    except DBAPIError as error:
        raise NotRestored(str(error.orig)) from error


class _Restoring:
    """One restore on its way. The rows come in SQLite, are migrated there, and are copied to another kind of database
    as they are then, so that old schemas are met in SQLite only."""

    def __init__(self, settings: Settings, archive: ArchiveReader) -> None:
        self._settings = settings
        self._archive = archive

    async def into_sqlite(self) -> None:
        """The rows' database gets the blobs, and is renamed into place."""
        target = sqlite_file(self._settings)
        assert target is not None
        _refuse_to_replace(target)
        with work_folder(self._settings.data_dir / "restore.part") as work:
            async with self._unpacked(work) as draft:
                await self._put_blobs(draft, self._storage(draft, work))
                async with draft.write("restore") as session:
                    await self._free_claims(session)
            crash_points.reach("restore: rows inserted")
            path = work / "fedloom.db"
            settle(path)
            with _updates_in_place(work, self._settings.data_dir):
                crash_points.reach("restore: files there")
                _refuse_to_replace(target)
                os.link(path, target)  # a renaming would replace the database of a coordinator that was just started
                sync_folder(target.parent)

    async def into_postgres(self) -> None:
        """The bytes come first: while no row names them they are nobody's. The rows are one transaction."""
        target = Database(self._settings.sqlalchemy_url)
        try:
            async with target.read() as session:
                await self._refuse_rows(session)
            with work_folder(self._settings.data_dir / "restore.part") as work:
                async with self._unpacked(work) as draft:
                    await migrate(target)
                    await self._clear_bytes(target)
                    try:
                        await self._put_blobs(draft, self._storage(target, work))
                        with _updates_in_place(work, self._settings.data_dir):
                            crash_points.reach("restore: files there")
                            await self._copy_rows(draft, target)
                    except BaseException:
                        with suppress(Exception):  # the first error is the one to be told
                            await self._clear_bytes(target)
                        raise
        finally:
            await target.close()

    def _storage(self, database: Database, folder: Path) -> Storage:
        return Storage(database, folder, updates=self._settings.storage.updates)

    @asynccontextmanager
    async def _unpacked(self, work: Path) -> AsyncIterator[Database]:
        """The backup's rows, with the newest schema. Raises UnknownSchema."""
        self._archive.unpack_database(work / "fedloom.db")
        draft = sqlite_at(work / "fedloom.db")
        try:
            await migrate(draft)
            yield draft
        finally:
            await draft.close()

    async def _put_blobs(self, draft: Database, storage: Storage) -> None:
        query = select(BlobUseRow.kind, BlobUseRow.sha256, BlobUseRow.n_bytes).where(BlobUseRow.stored).distinct()
        async with draft.read() as session:
            found = [(kind, BlobRef(sha256=sha256, n_bytes=n)) for kind, sha256, n in await session.execute(query)]
        for kind, ref in found:
            store = storage.store_of(kind)
            if await store.has(ref.sha256):  # equal bytes of another kind
                continue
            path = storage.scratch / ref.sha256
            self._archive.unpack_blob(ref, path)
            await store.put(path, ref)
            path.unlink(missing_ok=True)

    async def _copy_rows(self, draft: Database, target: Database) -> None:
        async with target.write("restore") as session:
            await self._refuse_rows(session)
            async with draft.read() as rows:
                tables = await (await rows.connection()).run_sync(tables_of)
                await copy_rows(rows, session, tables.values())
            await self._free_claims(session)
            crash_points.reach("restore: rows inserted")

    async def _free_claims(self, session: AsyncSession) -> None:
        """Release claims on campaigns and verifications: the engines that held them are not here."""
        held = update(CampaignRow).where(CampaignRow.claim_token.is_not(None))
        free = held.values(claim_token=None, claim_expires_at=None, due_at=self._archive.manifest.made_at)
        await session.execute(free)
        await session.execute(update(VerificationRow).values(claim_token=None, claim_expires_at=None))

    async def _refuse_rows(self, session: AsyncSession) -> None:
        """Raise NotEmpty where a table has rows, whatever the schema. Bytes may be there, of a killed restore."""
        connection = await session.connection()
        there = await connection.run_sync(lambda c: inspect(c).get_table_names())
        for name in sorted(Base.metadata.tables.keys() & (set(there) - BYTES)):
            if await session.scalar(select(literal(1)).select_from(table(name)).limit(1)):
                raise NotEmpty(place_of(self._settings))

    async def _clear_bytes(self, database: Database) -> None:
        """Delete all bytes of a database without rows. Raises NotEmpty."""
        async with database.write("clear bytes") as session:
            await self._refuse_rows(session)
            await session.execute(delete(BlobRow))
            await session.execute(delete(BlobChunkRow))


def _refuse_to_replace(database: Path) -> None:
    """Raise NotEmpty where there is a database, or the log of one, which SQLite would apply to any that comes there."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path = database.with_name(database.name + suffix)
        if os.path.lexists(path):
            raise NotEmpty(str(path))


@contextmanager
def _updates_in_place(work: Path, data_dir: Path) -> Iterator[None]:
    """Move the updates into the data folder, and away again where the block fails."""
    placed = []
    folders = {data_dir}
    try:
        for path in sorted((work / UPDATES).glob("*/*")):
            target = data_dir / path.relative_to(work)
            target.parent.mkdir(parents=True, exist_ok=True)
            folders |= {target.parent, target.parent.parent}
            if not target.exists():
                placed.append(target)
            path.replace(target)
        for folder in folders:
            sync_folder(folder)
        yield
    except BaseException:
        for target in placed:
            target.unlink(missing_ok=True)
        raise
