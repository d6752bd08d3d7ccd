"""What the database and the storage hold of a campaign."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from coordinator.database.tables import (
    AdapterRow,
    BlobChunkRow,
    BlobRow,
    BlobUseRow,
    CampaignRow,
    EventRow,
    MetricRow,
    ParticipantRow,
    RoundRow,
    TaskRow,
    UploadRow,
)
from coordinator.services import Services
from coordinator.storage.file_store import FileStore
from shared.states import BlobKind, TaskKind, TaskState
from shared.wire.base import BlobRef

IN_UPDATES = (BlobKind.DELTA, BlobKind.EXTRAS)


@dataclass(frozen=True)
class Seen:
    """A campaign's rows. there: the stored blobs of its that are where they should be. trained: client numbers and
    rounds of the metrics of updates."""

    campaign: CampaignRow
    rounds: Sequence[RoundRow]
    adapters: Sequence[AdapterRow]
    tasks: Sequence[TaskRow]
    participants: Sequence[ParticipantRow]
    events: Sequence[int]
    uses: Sequence[BlobUseRow]
    there: set[str]
    trained: Sequence[tuple[int, int]]

    def train_tasks(self, *states: TaskState) -> list[TaskRow]:
        return [task for task in self.tasks if task.kind is TaskKind.TRAIN and task.state in states]

    @property
    def client_numbers(self) -> dict[str, int]:
        """Of the clients, by the id of their agents."""
        return {each.agent_id: each.client_number for each in self.participants if each.client_number is not None}


async def look_at(services: Services, campaign_id: str) -> Seen:
    """All of a campaign, as it is in one transaction."""
    async with services.database.read() as session:

        async def rows(table: Any, *order: Any) -> Any:
            query = select(table).where(table.campaign_id == campaign_id).order_by(*order)
            return (await session.scalars(query)).all()

        uses = await rows(BlobUseRow, BlobUseRow.id)
        stored = {use.sha256 for use in uses if use.stored}
        in_database = set((await session.scalars(select(BlobRow.sha256).where(BlobRow.sha256.in_(stored)))).all())
        of_clients = select(MetricRow.client_number, MetricRow.round).where(
            MetricRow.campaign_id == campaign_id, MetricRow.name == "tokens"
        )
        seen = Seen(
            campaign=await session.get_one(CampaignRow, campaign_id),
            rounds=await rows(RoundRow, RoundRow.number),
            adapters=await rows(AdapterRow, AdapterRow.number),
            tasks=await rows(TaskRow, TaskRow.id),
            participants=await rows(ParticipantRow, ParticipantRow.agent_name),
            events=(
                await session.scalars(
                    select(EventRow.number).where(EventRow.campaign_id == campaign_id).order_by(EventRow.number)
                )
            ).all(),
            uses=uses,
            there=set(),
            trained=[tuple(row) for row in (await session.execute(of_clients)).all()],
        )
    for use in uses:
        if use.stored and (
            use.sha256 in in_database if _is_row(services, use.kind) else _path(services, use.sha256).exists()
        ):
            seen.there.add(use.id)
    return seen


async def task_of(services: Services, task_id: str) -> TaskRow:
    async with services.database.read() as session:
        return await session.get_one(TaskRow, task_id)


async def whole_uploads(services: Services, task_id: str) -> set[str]:
    """The digests of a task's uploads that have all their bytes."""
    query = select(UploadRow.sha256).where(UploadRow.task_id == task_id, UploadRow.offset == UploadRow.n_bytes)
    async with services.database.read() as session:
        return set((await session.scalars(query)).all())


async def read_blob(services: Services, use: BlobUseRow) -> bytes:
    ref = BlobRef(sha256=use.sha256, n_bytes=use.n_bytes)
    parts = services.storage.store_of(use.kind).read(ref, 0, use.n_bytes)
    return b"".join([part async for part in parts])


async def unnamed(services: Services) -> set[str]:
    """All that is stored and that no row names: neither as used nor as on its way."""
    async with services.database.read() as session:
        uses = (await session.scalars(select(BlobUseRow).where(BlobUseRow.stored))).all()
        uploads = (await session.scalars(select(UploadRow))).all()
        chunks = (await session.scalars(select(BlobChunkRow.blob).distinct())).all()
        blobs = (await session.scalars(select(BlobRow.sha256))).all()
    named = {use.sha256 for use in uses} | {upload.sha256 for upload in uploads}
    named |= {upload.id for upload in uploads} | {f"upload:{upload.id}" for upload in uploads}
    folders = [services.storage.data_dir / name for name in ("updates", "uploads", "scratch")]
    files = [path.name for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {*chunks, *blobs, *files} - named


def _is_row(services: Services, kind: BlobKind) -> bool:
    return not isinstance(services.storage.store_of(kind), FileStore)


def _path(services: Services, sha256: str) -> Path:
    return services.storage.data_dir / "updates" / sha256[:2] / sha256
