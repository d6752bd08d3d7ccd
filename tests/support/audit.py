"""Checks of a coordinator's database and folders, read directly: no duplicate records, nothing left over."""

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.sessions import Database
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
from coordinator.settings import Settings
from shared.digest import sha256_file
from shared.states import BlobKind, RoundState, TaskState

T = TypeVar("T")

_UPDATES = (BlobKind.DELTA, BlobKind.EXTRAS)


def read(settings: Settings, work: Callable[[AsyncSession], Coroutine[Any, Any, T]]) -> T:
    """Run *work* in a read transaction on a coordinator's database and return its result."""

    async def main() -> T:
        database = Database(settings.database)
        try:
            async with database.read() as session:
                return await work(session)
        finally:
            await database.close()

    return asyncio.run(main())


def check_counted(settings: Settings, campaign_id: str) -> None:
    """Check that events are numbered without gaps and that tasks, metrics and blob uses are recorded once each."""

    async def work(session: AsyncSession) -> None:
        async def rows(table: Any) -> list[Any]:
            return list((await session.scalars(select(table).where(table.campaign_id == campaign_id))).all())

        campaign = await session.get_one(CampaignRow, campaign_id)
        events = sorted(await rows(EventRow), key=lambda event: event.number)
        assert [event.number for event in events] == list(range(1, campaign.last_event + 1))
        ended = {TaskState.DONE: "task-done", TaskState.FAILED: "task-failed"}
        tasks = {task.id: task for task in await rows(TaskRow)}
        assert {task.state for task in tasks.values()} <= {*ended, TaskState.CANCELLED, TaskState.SUPERSEDED}
        for state, event in ended.items():
            reported = Counter(each.data["task_id"] for each in events if each.type == event)
            assert set(reported.values()) <= {1}, event
            assert {task.id for task in tasks.values() if task.state is state} <= reported.keys()
        metrics = Counter((each.round, each.name, each.client_number) for each in await rows(MetricRow))
        assert set(metrics.values()) <= {1}, metrics.most_common(3)
        uses = Counter((use.kind, use.round, use.task_id) for use in await rows(BlobUseRow) if use.stored)
        assert set(uses.values()) <= {1}, uses.most_common(3)
        assert {each.state for each in await rows(RoundRow)} <= {RoundState.CLOSED, RoundState.CANCELLED}

    read(settings, work)


def contributors(settings: Settings, campaign_id: str) -> list[list[str]]:
    """Names of the agents that contributed to each adapter, from the first round on."""

    async def work(session: AsyncSession) -> list[list[str]]:
        query = select(AdapterRow).where(AdapterRow.campaign_id == campaign_id, AdapterRow.number > 0)
        adapters = (await session.scalars(query.order_by(AdapterRow.number))).all()
        return [[share["agent_name"] for share in adapter.contributions] for adapter in adapters]

    return read(settings, work)


def stored_files(settings: Settings, campaign_id: str, round_number: int, agent_name: str) -> list[Path]:
    """Paths of the stored files of an agent's update."""

    async def work(session: AsyncSession) -> list[Path]:
        query = (
            select(BlobUseRow.sha256)
            .join(TaskRow, TaskRow.id == BlobUseRow.task_id)
            .join(ParticipantRow, ParticipantRow.agent_id == TaskRow.agent_id)
            .where(
                BlobUseRow.campaign_id == campaign_id,
                ParticipantRow.campaign_id == campaign_id,
                BlobUseRow.round == round_number,
                BlobUseRow.kind == BlobKind.DELTA,
                ParticipantRow.agent_name == agent_name,
            )
        )
        digests = (await session.scalars(query)).all()
        return [settings.data_dir / "updates" / sha256[:2] / sha256 for sha256 in digests]

    return read(settings, work)


def leftovers(settings: Settings) -> list[str]:
    """List what is stored but unreferenced. Fails if a referenced blob is missing or corrupt."""

    async def work(session: AsyncSession) -> list[str]:
        uses = (await session.scalars(select(BlobUseRow).where(BlobUseRow.stored))).all()
        uploads = (await session.scalars(select(UploadRow))).all()
        blobs = dict.fromkeys((await session.scalars(select(BlobRow.sha256))).all(), b"")
        stray_chunks = set()
        staged = {upload.id for upload in uploads}
        for chunk in (await session.scalars(select(BlobChunkRow).order_by(BlobChunkRow.offset))).all():
            if chunk.blob in blobs:
                blobs[chunk.blob] += chunk.data
            elif chunk.blob.removeprefix("upload:") not in staged:
                stray_chunks.add(chunk.blob)
        files = {path.name: path for path in _files(settings.data_dir / "updates")}
        in_files = {use.sha256 for use in uses if settings.storage.updates == "files" and use.kind in _UPDATES}
        in_database = {use.sha256 for use in uses} - in_files
        for use in uses:
            digest = sha256_file(files[use.sha256]) if use.sha256 in in_files else _digest(blobs[use.sha256])
            assert digest == use.sha256, f"{use.kind} of round {use.round} is corrupt"
        specs = {campaign.id: campaign.spec for campaign in (await session.scalars(select(CampaignRow))).all()}
        return [
            *(
                f"{use.kind} of round {use.round}, which should be deleted"
                for use in uses
                if use.kind in _UPDATES and specs[use.campaign_id].retention.updates == 0
            ),
            *(f"scratch: {path.name}" for path in _files(settings.data_dir / "scratch")),
            *(f"uploads: {path.name}" for path in _files(settings.data_dir / "uploads") if path.name not in staged),
            *(f"upload row: {upload.purpose}" for upload in uploads),
            *(f"updates: {name}" for name in files.keys() - in_files),
            *(f"blob: {sha256}" for sha256 in blobs.keys() - in_database),
            *(f"chunks: {blob}" for blob in stray_chunks),
        ]

    return read(settings, work)


def _files(folder: Path) -> list[Path]:
    # not rglob, which fails if a folder disappears during the walk
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
