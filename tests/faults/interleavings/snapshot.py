"""Contents of the database and the storage for a campaign."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from coordinator.database.tables import (
    AdapterRow,
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
from shared.states import BlobKind, ParticipantState, TaskKind, TaskState
from shared.wire.base import BlobRef

IN_UPDATES = (BlobKind.DELTA, BlobKind.EXTRAS)


@dataclass(frozen=True)
class Snapshot:
    """A campaign's rows. present: ids of the blob uses whose bytes exist. trained: client number and round of each
    metric of an update."""

    campaign: CampaignRow
    rounds: Sequence[RoundRow]
    adapters: Sequence[AdapterRow]
    tasks: Sequence[TaskRow]
    participants: Sequence[ParticipantRow]
    events: Sequence[int]
    uses: Sequence[BlobUseRow]
    present: set[str]
    trained: Sequence[tuple[int, int]]

    def train_tasks(self, *states: TaskState) -> list[TaskRow]:
        return [task for task in self.tasks if task.kind is TaskKind.TRAIN and task.state in states]

    def state_of(self, name: str) -> ParticipantState | None:
        """The state of an agent's part; None if it was not invited."""
        return next((each.state for each in self.participants if each.agent_name == name), None)

    @property
    def client_numbers(self) -> dict[str, int]:
        """Client numbers by agent id."""
        return {each.agent_id: each.client_number for each in self.participants if each.client_number is not None}


async def read_snapshot(services: Services, campaign_id: str) -> Snapshot:
    """Read all rows of a campaign in one transaction."""
    async with services.database.read() as session:

        async def rows(table: Any, *order: Any) -> Any:
            query = select(table).where(table.campaign_id == campaign_id).order_by(*order)
            return (await session.scalars(query)).all()

        of_clients = select(MetricRow.client_number, MetricRow.round).where(
            MetricRow.campaign_id == campaign_id, MetricRow.name == "tokens"
        )
        snapshot = Snapshot(
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
            uses=await rows(BlobUseRow, BlobUseRow.id),
            present=set(),
            trained=[tuple(row) for row in (await session.execute(of_clients)).all()],
        )
    for use in snapshot.uses:
        if use.stored and await services.storage.store_of(use.kind).has(use.sha256):
            snapshot.present.add(use.id)
    return snapshot


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


async def unreferenced(services: Services) -> set[str]:
    """Names of all stored data that no row references, neither as a blob in use nor as an upload."""
    storage = services.storage
    async with services.database.read() as session:
        uses = (await session.scalars(select(BlobUseRow).where(BlobUseRow.stored))).all()
        uploads = (await session.scalars(select(UploadRow))).all()
    named = {use.sha256 for use in uses} | {upload.sha256 for upload in uploads} | {upload.id for upload in uploads}
    held = [await store.names() for store in storage.stores]
    held += [await storage.staging.names(), {path.name for path in storage.scratch.iterdir()}]
    return set().union(*held) - named
