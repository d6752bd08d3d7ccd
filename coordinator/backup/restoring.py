"""Restores a coordinator's data from a backup, entirely or not at all."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import delete, inspect, literal, select, table, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.backup.archive import ArchiveReader, Manifest, reading
from coordinator.backup.errors import NotEmpty, NotRestored, OtherKey
from coordinator.backup.places import place_of, sqlite_file, work_folder
from coordinator.backup.rows import BYTE_TABLES, copy_rows, merge_log, sqlite_at, tables_of
from coordinator.backup.saving import Show
from coordinator.database.disk_full import translate_disk_full
from coordinator.database.migrate import migrate
from coordinator.database.sessions import Database
from coordinator.database.tables import (
    Base,
    BlobChunkRow,
    BlobRow,
    BlobUseRow,
    CampaignRow,
    RoundRow,
    VerificationRow,
)
from coordinator.engine.participants import names_of
from coordinator.errors import DatabaseAway
from coordinator.settings import Settings
from coordinator.signing import chain
from coordinator.signing.key_file import KeyFile, Keys
from coordinator.storage.storage import Storage
from shared import crash_points
from shared.states import RoundState
from shared.system.durable import sync_folder
from shared.wire.base import BlobRef

_FIRST_HISTORY = datetime(2026, 1, 1, tzinfo=UTC)
"""Histories that begin with a restore are numbered by the seconds since then: they rise with each restore."""


def restore(settings: Settings, file: Path, *, show: Show = lambda *_: None) -> Manifest:
    """Restore a backup as the data of a coordinator that has not started yet. Returns the backup's manifest.

    Its database must be missing or empty. The schema is migrated to the newest, and blobs are stored where the settings
    say, wherever they came from. Raises BackupError, UnknownSchema, StorageFull and OSError; nothing is left behind
    then. Leftovers of a killed restore are deleted by the next try.
    """
    return asyncio.run(_restore(settings, file, show))


async def _restore(settings: Settings, file: Path, show: Show) -> Manifest:
    n_done = 0

    def add_bytes(n_bytes: int) -> None:
        nonlocal n_done
        n_done += n_bytes
        show(min(n_done, archive.n_bytes), archive.n_bytes)

    try:
        with reading(file, add_bytes) as archive, translate_disk_full():
            _put_signing_key(settings, archive)
            restoring = _Restoring(settings, archive)
            await (restoring.into_sqlite() if sqlite_file(settings) is not None else restoring.into_postgres())
            return archive.manifest
    except DBAPIError as error:
        raise NotRestored(str(error.orig)) from error
    except DatabaseAway as error:
        raise NotRestored(str(error)) from error


def _put_signing_key(settings: Settings, archive: ArchiveReader) -> None:
    """Store the backup's signing key, unless the same one or a later one is there. Raises BadBackup and OtherKey.

    It is there before the rows: a service that finds them makes no other key.
    """
    content = archive.signing_key()
    if content is None:
        return
    file = KeyFile(settings.signing_key_file)
    keys, present = Keys.of_text(content, file.path), file.read()
    if present is None:
        file.store(keys)
    elif keys.public not in (present.public, *present.earlier):
        raise OtherKey(file.path)


class _Restoring:
    """A restore in progress. The rows are migrated in the backup's SQLite database before they go to PostgreSQL, so old
    schemas occur in SQLite only."""

    def __init__(self, settings: Settings, archive: ArchiveReader) -> None:
        self._settings = settings
        self._archive = archive

    async def into_sqlite(self) -> None:
        """Put the blobs beside the backup's rows, and link the database into place."""
        target = sqlite_file(self._settings)
        assert target is not None
        _refuse_to_replace(target)
        with work_folder(self._settings.data_dir / "restore.part") as work:
            async with self._unpacked(work) as draft:
                storage = self._storage(draft, work)
                await self._put_blobs(draft, storage)
                async with draft.write("restore") as session:
                    await self._begin_again(session)
            crash_points.reach("restore: rows inserted")
            path = work / "fedloom.db"
            merge_log(path)
            async with storage.moved_to(self._settings.data_dir):
                crash_points.reach("restore: files there")
                _refuse_to_replace(target)
                os.link(
                    path, target
                )  # unlike renaming, this cannot replace the database of a coordinator that was just started
                sync_folder(target.parent)

    async def into_postgres(self) -> None:
        """Store the blobs first: they are unreferenced until the rows follow, in one transaction."""
        target = Database(self._settings.database)
        try:
            async with target.read() as session:
                await self._refuse_rows(session)
            with work_folder(self._settings.data_dir / "restore.part") as work:
                async with self._unpacked(work) as draft:
                    await migrate(target)
                    await self._clear_bytes(target)
                    try:
                        storage = self._storage(target, work)
                        await self._put_blobs(draft, storage)
                        async with storage.moved_to(self._settings.data_dir):
                            crash_points.reach("restore: files there")
                            await self._copy_rows(draft, target)
                    except BaseException:
                        with suppress(Exception):  # raise the first error
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
            blobs = [(kind, BlobRef(sha256=sha256, n_bytes=n)) for kind, sha256, n in await session.execute(query)]
        for kind, ref in blobs:
            store = storage.store_of(kind)
            if await store.has(ref.sha256):  # stored before, as another kind
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
            await self._begin_again(session)
            crash_points.reach("restore: rows inserted")

    async def _begin_again(self, session: AsyncSession) -> None:
        """Release all claims on campaigns and verifications, whose engines do not exist here, and begin a history of
        each campaign, above any that its agents have seen since the backup: in an old one they begin no round again."""
        claimed = update(CampaignRow).where(CampaignRow.claim_token.is_not(None))
        made_at = self._archive.manifest.made_at
        await session.execute(claimed.values(claim_token=None, claim_expires_at=None, due_at=made_at))
        await session.execute(update(VerificationRow).values(claim_token=None, claim_expires_at=None))
        seconds = int((datetime.now(UTC) - _FIRST_HISTORY).total_seconds())
        await session.execute(update(CampaignRow).values(history=CampaignRow.history + 1))
        await session.execute(update(CampaignRow).where(CampaignRow.history < seconds).values(history=seconds))
        for campaign in (await session.scalars(select(CampaignRow).order_by(CampaignRow.id))).all():
            chain.say_history(session, campaign)
            await _say_open_round(session, campaign)

    async def _refuse_rows(self, session: AsyncSession) -> None:
        """Raise NotEmpty if a table has rows, whatever the schema. Bytes may exist, left by a killed restore."""
        connection = await session.connection()
        existing = await connection.run_sync(lambda c: inspect(c).get_table_names())
        for name in sorted(Base.metadata.tables.keys() & (set(existing) - BYTE_TABLES)):
            if await session.scalar(select(literal(1)).select_from(table(name)).limit(1)):
                raise NotEmpty(place_of(self._settings))

    async def _clear_bytes(self, database: Database) -> None:
        """Delete all bytes of a database without rows. Raises NotEmpty."""
        async with database.write("clear bytes") as session:
            await self._refuse_rows(session)
            await session.execute(delete(BlobRow))
            await session.execute(delete(BlobChunkRow))


async def _say_open_round(session: AsyncSession, campaign: CampaignRow) -> None:
    """State the clients of the round that is under way, which goes on in the new history."""
    round_row = await session.get(RoundRow, (campaign.id, campaign.rounds_closed + 1))
    if round_row is None or round_row.state not in (RoundState.OPEN, RoundState.AGGREGATING):
        return
    names = await names_of(session, campaign.id, round_row.sampled)
    chain.say_roster(session, campaign, round_row.number, names)


def _refuse_to_replace(database: Path) -> None:
    """Raise NotEmpty if there is a database, or a database's log, which SQLite would apply to a new database."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path = database.with_name(database.name + suffix)
        if os.path.lexists(path):
            raise NotEmpty(str(path))
