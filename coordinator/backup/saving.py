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
from coordinator.backup.places import UPDATES, place_of, sqlite_file
from coordinator.backup.rows import copy_rows, settle, snapshot, sqlite_at, tables_of
from coordinator.clock import SystemClock
from coordinator.database.migrate import migrate
from coordinator.database.sessions import Database
from coordinator.database.tables import BlobUseRow, CampaignRow
from coordinator.disk_full import translate_disk_full
from coordinator.errors import NotFound
from coordinator.settings import Settings
from coordinator.storage.file_store import FileStore
from coordinator.storage.scratch import scratch_folder
from coordinator.storage.storage import Storage
from shared import crash_points
from shared.states import BlobKind
from shared.wire.base import BlobRef

Show = Callable[[int, int], None]
"""Is told how many bytes are done, and how many there are."""

_TRIES = 5
_SOONEST_GONE = (BlobKind.DELTA, BlobKind.EXTRAS, BlobKind.BROADCAST, BlobKind.SERVER_STATE, BlobKind.ADAPTER)
"""The order of copying: a running coordinator lets go of updates when their round closes, of adapters hardly ever."""


class _Damaged(Exception):
    """A blob's bytes are not what they should be."""


@dataclass(frozen=True)
class _Use:
    """A stored blob, and what the campaign uses it for."""

    campaign: str
    kind: BlobKind
    round: int
    ref: BlobRef

    def damage(self, reason: str) -> Damage:
        return Damage(self.campaign, self.kind, self.round, self.ref.sha256, reason)


def back_up(
    settings: Settings, file: Path, *, leave_out_damaged: bool = False, show: Show = lambda *_: None
) -> Manifest:
    """Write a backup of a coordinator to a file, whole or not at all; what is in it.

    The coordinator may run meanwhile, here or on another machine, and nothing of it changes. Every blob is checked
    against its digest. leave_out_damaged: go without those that are not what they should be, as if they were no longer
    kept. Raises BackupError, UnknownSchema, StorageFull and OSError.
    """
    return asyncio.run(_back_up(settings, file, show, leave_out_damaged=leave_out_damaged))


async def _back_up(settings: Settings, file: Path, show: Show, *, leave_out_damaged: bool) -> Manifest:
    database_file = sqlite_file(settings)
    if database_file is not None and not database_file.exists():
        raise NoDatabase(place_of(settings))
    database = Database(settings.sqlalchemy_url)
    storage = Storage(database, settings.data_dir, updates=settings.storage.updates)
    try:
        # not beside the file: SQLite does not get on with the file systems of every network
        with translate_disk_full(), scratch_folder(storage.scratch) as work:
            saving = _Saving(settings, database, storage, work, show)
            with writing(file, saving.tell) as archive:
                return await saving.run(archive, leave_out_damaged=leave_out_damaged)
    except DBAPIError as error:
        raise Unreadable(str(error.orig)) from error
    finally:
        await database.close()


@dataclass(frozen=True)
class _Draft:
    """The rows of one moment, in a SQLite database of their own with the schema that they were found in."""

    path: Path
    database: Database
    revision: str
    tables: dict[str, Table]

    async def uses(self) -> list[_Use]:
        """The blobs that are stored, in the order in which they are to be copied."""
        use, campaign = self.tables[BlobUseRow.__tablename__], self.tables[CampaignRow.__tablename__]
        columns = (campaign.c.name, use.c.kind, use.c.round, use.c.sha256, use.c.n_bytes)
        query = select(*columns).select_from(use.join(campaign)).where(use.c.stored)
        async with self.database.read() as session:
            found = [
                _Use(name, BlobKind(kind), number, BlobRef(sha256=sha256, n_bytes=n_bytes))
                for name, kind, number, sha256, n_bytes in await session.execute(query)
            ]
        return sorted(found, key=lambda each: (_SOONEST_GONE.index(each.kind), each.round))

    async def leave_out(self, digests: Iterable[str]) -> None:
        """Have blobs be no longer kept."""
        use = self.tables[BlobUseRow.__tablename__]
        async with self.database.write("leave out") as session:
            for sha256 in digests:
                await session.execute(update(use).where(use.c.sha256 == sha256).values(stored=False))

    async def count_campaigns(self) -> int:
        async with self.database.read() as session:
            query = select(func.count()).select_from(self.tables[CampaignRow.__tablename__])
            return await session.scalar(query) or 0


class _Saving:
    """One backup on its way. Blobs never change, so what was copied is good for every later moment too."""

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

    def tell(self, n_bytes: int) -> None:
        """Take down that bytes were written."""
        self._n_done += n_bytes
        self._show(self._n_done, max(self._n_done, self._n_bytes))

    async def run(self, archive: ArchiveWriter, *, leave_out_damaged: bool) -> Manifest:
        """Copy all that there is. Raises what ``back_up`` does."""
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
            settle(draft.path)
            manifest = self._manifest(draft, uses, n_campaigns, damage)
            archive.finish(draft.path, manifest)
            crash_points.reach("backup: written")
            return manifest
        raise TooFast(_TRIES)

    @asynccontextmanager
    async def _drafted(self, path: Path) -> AsyncIterator[_Draft]:
        """All rows as they are now. Raises NoDatabase and UnknownSchema."""
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
        """Copy the blobs that were not copied yet; False where some were let go of since the rows were copied."""
        known = self._copied | self._damaged.keys()
        left = {use.ref.sha256: use for use in uses if use.ref.sha256 not in known}
        self._n_bytes = self._n_done + sum(use.ref.n_bytes for use in left.values())
        is_whole = True
        for sha256, use in left.items():
            try:
                await self._copy(archive, use)
                self._copied.add(sha256)
            except _Damaged as error:
                self._damaged[sha256] = str(error)
            except NotFound:
                # where it was let go of, rows that are taken later do not name it any more
                if sha256 in self._missed:
                    self._damaged[sha256] = f"its bytes, or some of them, are not in {self._place_of(use)}"
                else:
                    self._missed.add(sha256)
                    is_whole = False
        return is_whole

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
        except OSError as error:  # of a disk that dies; what cannot be written is no damage
            raise _Damaged(f"its bytes cannot be read ({error.strerror})") from error

    def _place_of(self, use: _Use) -> str:
        in_files = isinstance(self._storage.store_of(use.kind), FileStore)
        return str(self._settings.data_dir / UPDATES) if in_files else "the database"

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
