"""Makes a backup of a coordinator that may be running."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Table, func, select, update
from sqlalchemy.exc import DBAPIError

from coordinator import __version__
from coordinator.backup.archive import ArchiveWriter, Manifest, writing
from coordinator.backup.errors import Damage, DamagedBlobs, NoDatabase, TooFast, Unreadable
from coordinator.backup.places import place_of, sqlite_file
from coordinator.backup.rows import copy_rows, merge_log, snapshot, sqlite_at, tables_of
from coordinator.clock import SystemClock
from coordinator.database.disk_full import translate_disk_full
from coordinator.database.migrate import migrate
from coordinator.database.sessions import Database
from coordinator.database.tables import BlobUseRow, CampaignRow
from coordinator.errors import DatabaseAway, NotFound, SigningKeyUnusable
from coordinator.settings import Settings
from coordinator.signing.key_file import KeyFile
from coordinator.storage.data_folder import open_data_folder
from coordinator.storage.scratch import scratch_folder
from coordinator.storage.storage import Storage
from shared import crash_points
from shared.states import BlobKind
from shared.wire.base import BlobRef

Show = Callable[[int, int], None]
"""Called with the number of bytes done and the total."""

_TRIES = 5
_COPY_ORDER = (BlobKind.DELTA, BlobKind.EXTRAS, BlobKind.BROADCAST, BlobKind.SERVER_STATE, BlobKind.ADAPTER)
"""Kinds in the order in which a running coordinator deletes them: updates after each round, adapters rarely."""


class _Damaged(Exception):
    """A blob's bytes are missing or do not match its digest."""


@dataclass(frozen=True)
class _Use:
    """A campaign's use of a stored blob."""

    campaign: str
    kind: BlobKind
    round: int
    ref: BlobRef

    def damage(self, reason: str) -> Damage:
        return Damage(self.campaign, self.kind, self.round, self.ref.sha256, reason)


def back_up(
    settings: Settings,
    file: Path,
    *,
    leave_out_damaged: bool = False,
    with_key: bool = False,
    show: Show = lambda *_: None,
) -> Manifest:
    """Write a backup of a coordinator to a file, atomically. Returns the backup's manifest.

    The coordinator may run meanwhile, here or on another machine, and is not changed. Every blob is checked against its
    digest. Raises BackupError, SigningKeyUnusable, UnknownSchema, StorageFull and OSError.

    Args:
        settings: the coordinator's.
        file: must not exist.
        leave_out_damaged: omit damaged blobs, as if they were no longer stored, instead of raising DamagedBlobs.
        with_key: add the signing key, by which whoever has the file can speak for the coordinator.
        show: called with the progress.
    """
    key = _signing_key(settings) if with_key else None
    return asyncio.run(_back_up(settings, file, show, key, leave_out_damaged=leave_out_damaged))


def _signing_key(settings: Settings) -> bytes:
    file = KeyFile(settings.signing_key_file)
    keys = file.read()
    if keys is None:
        raise SigningKeyUnusable(file.path, "it is missing, so the backup cannot have it")
    return keys.to_text().encode()


async def _back_up(
    settings: Settings, file: Path, show: Show, signing_key: bytes | None, *, leave_out_damaged: bool
) -> Manifest:
    database_file = sqlite_file(settings)
    if database_file is not None and not database_file.exists():
        raise NoDatabase(place_of(settings))
    open_data_folder(settings.data_dir)
    database = Database(settings.database)
    storage = Storage(database, settings.data_dir, updates=settings.storage.updates)
    try:
        # not beside the file: SQLite does not work on all network file systems
        with translate_disk_full(), scratch_folder(storage.scratch) as work:
            saving = _Saving(settings, database, storage, work, show)
            with writing(file, saving.add_bytes) as archive:
                return await saving.run(archive, signing_key, leave_out_damaged=leave_out_damaged)
    except DBAPIError as error:
        raise Unreadable(str(error.orig)) from error
    except DatabaseAway as error:
        raise Unreadable(str(error)) from error
    finally:
        await database.close()


@dataclass(frozen=True)
class _Draft:
    """A snapshot of the rows, in a SQLite database of its own with the source's schema."""

    path: Path
    database: Database
    revision: str
    tables: dict[str, Table]

    async def uses(self) -> list[_Use]:
        """The stored blobs in the order in which to copy them."""
        use, campaign = self.tables[BlobUseRow.__tablename__], self.tables[CampaignRow.__tablename__]
        columns = (campaign.c.name, use.c.kind, use.c.round, use.c.sha256, use.c.n_bytes)
        query = select(*columns).select_from(use.join(campaign)).where(use.c.stored)
        async with self.database.read() as session:
            uses = [
                _Use(name, BlobKind(kind), number, BlobRef(sha256=sha256, n_bytes=n_bytes))
                for name, kind, number, sha256, n_bytes in await session.execute(query)
            ]
        return sorted(uses, key=lambda each: (_COPY_ORDER.index(each.kind), each.round))

    async def leave_out(self, digests: Iterable[str]) -> None:
        """Mark blobs as no longer stored."""
        use = self.tables[BlobUseRow.__tablename__]
        async with self.database.write("leave out") as session:
            for sha256 in digests:
                await session.execute(update(use).where(use.c.sha256 == sha256).values(stored=False))

    async def count_campaigns(self) -> int:
        async with self.database.read() as session:
            query = select(func.count()).select_from(self.tables[CampaignRow.__tablename__])
            return await session.scalar(query) or 0


class _Saving:
    """A backup in progress. Blobs never change, so copied ones stay valid for later snapshots."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, work: Path, show: Show) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._work = work
        self._show = show
        self._n_done = self._n_bytes = 0
        self._copied: set[str] = set()
        self._missed: set[str] = set()
        self._damaged: dict[str, str] = {}

    def add_bytes(self, n_bytes: int) -> None:
        """Add written bytes to the progress."""
        self._n_done += n_bytes
        self._show(self._n_done, max(self._n_done, self._n_bytes))

    async def run(self, archive: ArchiveWriter, signing_key: bytes | None, *, leave_out_damaged: bool) -> Manifest:
        """Write the whole backup. Raises the errors of ``back_up``."""
        for number in range(_TRIES):
            async with self._drafted(self._work / f"{number}.db") as draft:
                uses = await draft.uses()
                if not await self._copy_blobs(archive, uses):
                    continue
                damage = [use.damage(self._damaged[use.ref.sha256]) for use in uses if use.ref.sha256 in self._damaged]
                if damage and not leave_out_damaged:
                    raise DamagedBlobs(damage)
                await draft.leave_out(self._damaged)
                n_campaigns = await draft.count_campaigns()
            merge_log(draft.path)
            manifest = self._manifest(draft, uses, n_campaigns, damage)
            archive.finish(draft.path, signing_key, manifest)
            crash_points.reach("backup: written")
            return manifest
        raise TooFast(_TRIES)

    @asynccontextmanager
    async def _drafted(self, path: Path) -> AsyncIterator[_Draft]:
        """Copy a snapshot of all rows. Raises NoDatabase and UnknownSchema."""
        draft = sqlite_at(path)
        try:
            async with snapshot(self._database) as source:
                connection = await source.connection()
                revision = await connection.run_sync(lambda c: MigrationContext.configure(c).get_current_revision())
                if revision is None:
                    raise NoDatabase(place_of(self._settings))
                await migrate(draft, revision)
                async with draft.write("draft") as target:
                    tables = await (await target.connection()).run_sync(tables_of)
                    await copy_rows(source, target, tables.values())
            crash_points.reach("backup: rows copied")
            yield _Draft(path, draft, revision, tables)
        finally:
            await draft.close()

    async def _copy_blobs(self, archive: ArchiveWriter, uses: Sequence[_Use]) -> bool:
        """Copy the remaining blobs. Returns False if some were deleted since the rows were copied."""
        known = self._copied | self._damaged.keys()
        remaining = {use.ref.sha256: use for use in uses if use.ref.sha256 not in known}
        self._n_bytes = self._n_done + sum(use.ref.n_bytes for use in remaining.values())
        is_complete = True
        for sha256, use in remaining.items():
            try:
                await self._copy(archive, use)
                self._copied.add(sha256)
            except _Damaged as error:
                self._damaged[sha256] = str(error)
            except NotFound:
                # after a regular deletion, a later snapshot of the rows does not reference it any more
                if sha256 in self._missed:
                    place = self._storage.store_of(use.kind).place
                    self._damaged[sha256] = f"some or all of its bytes are missing in {place}"
                else:
                    self._missed.add(sha256)
                    is_complete = False
        return is_complete

    async def _copy(self, archive: ArchiveWriter, use: _Use) -> None:
        digest = hashlib.sha256()
        with archive.blob(use.ref) as write:
            async for chunk in self._read(use):
                digest.update(chunk)
                write(chunk)
            if digest.hexdigest() != use.ref.sha256:
                raise _Damaged(f"its bytes have the digest {digest.hexdigest()}")

    async def _read(self, use: _Use) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._storage.store_of(use.kind).read(use.ref, 0, use.ref.n_bytes):
                yield chunk
        except OSError as error:  # the source disk fails; errors of writing do not come here
            raise _Damaged(f"its bytes cannot be read ({error.strerror})") from error

    def _manifest(self, draft: _Draft, uses: Sequence[_Use], n_campaigns: int, left_out: Sequence[Damage]) -> Manifest:
        blobs = {(use.kind, use.ref) for use in uses if use.ref.sha256 in self._copied}
        return Manifest(
            fedloom=__version__,
            schema_revision=draft.revision,
            made_at=SystemClock().now(),
            database="sqlite" if self._database.is_sqlite else "postgresql",
            campaigns=n_campaigns,
            adapters=sum(kind is BlobKind.ADAPTER for kind, _ in blobs),
            updates=sum(kind is BlobKind.DELTA for kind, _ in blobs),
            n_bytes=sum(ref.n_bytes for ref in {ref for _, ref in blobs}) + draft.path.stat().st_size,
            left_out=[str(damage) for damage in left_out],
        )
