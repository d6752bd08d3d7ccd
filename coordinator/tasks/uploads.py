"""Resumable uploads: chunks with digests, appended only at the upload's end, so the offset never falls."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.ids import new_id
from coordinator.database.sessions import add_or_find
from coordinator.database.tables import CampaignRow, ParticipantRow, TaskRow, UploadRow
from coordinator.errors import BadChunk, Forbidden, Invalid, LeaseLost, NotFound, TooLarge, WrongOffset
from coordinator.services import Services
from coordinator.storage.retention import release_blobs
from coordinator.tasks.claims import LeaseClaim, LeaseHolder
from coordinator.tasks.keyed_locks import KeyedLocks
from coordinator.tasks.leases import check_held, is_leased, with_campaign_and_participant
from shared import algorithms
from shared.adapters.files import Contract
from shared.adapters.lora import at_rank, trained
from shared.digest import matches_content_digest
from shared.states import BlobKind, TaskKind, TaskState
from shared.wire.leases import UploadRequest

log = logging.getLogger(__name__)

_locks = KeyedLocks()


async def start(
    session: AsyncSession, now: datetime, claim: LeaseClaim, request: UploadRequest, max_adapter_bytes: int
) -> UploadRow:
    """Begin an upload for a leased task, or continue the one that an earlier attempt began.

    Raises LeaseLost, Invalid if the task has no such file, and TooLarge before the first byte is sent.
    """
    leased = (await session.execute(with_campaign_and_participant().where(is_leased(claim)))).first()
    if leased is None:
        raise LeaseLost(claim.task_id, claim.attempt)
    task, campaign, participant = leased
    expected = contract_of(campaign, task, participant, request.purpose)
    limit = expected.file_bytes if expected is not None else max_adapter_bytes
    if request.n_bytes > limit:
        raise TooLarge(request.n_bytes, limit)
    begun = select(UploadRow).where(UploadRow.task_id == task.id, UploadRow.sha256 == request.sha256)
    upload = UploadRow(
        id=new_id(now),
        task_id=task.id,
        purpose=request.purpose,
        sha256=request.sha256,
        n_bytes=request.n_bytes,
        offset=0,
        updated_at=now,
    )
    upload = await add_or_find(session, upload, begun)
    log.info("upload %s of %s: has %d of %d bytes", upload.id, upload.purpose, upload.offset, upload.n_bytes)
    return upload


def contract_of(
    campaign: CampaignRow, task: TaskRow, participant: ParticipantRow, purpose: BlobKind
) -> Contract | None:
    """The contract of an uploaded file, at the client's own rank.

    Returns None for adapter 0, which defines the campaign's contract. Raises Invalid if the task has no such file.

    Args:
        campaign: has the algorithm and the contract of the global adapter.
        task: the task that the file belongs to.
        participant: the agent's part in the campaign.
        purpose: the kind of file.
    """
    if task.kind is TaskKind.INIT and purpose is BlobKind.ADAPTER:
        return None
    if task.kind is TaskKind.TRAIN and campaign.contract is not None:
        assert participant.rank is not None  # a client is prepared
        contract = trained(at_rank(Contract.from_json(campaign.contract), participant.rank), campaign.spec.lora)
        if purpose is BlobKind.DELTA:
            return contract
        extras = algorithms.find(campaign.spec.algorithm.name).client.extras
        if purpose is BlobKind.EXTRAS and extras:
            return contract.in_slots(extras)
    raise Invalid(("purpose", f"a task of kind {task.kind} has no file {purpose}"))


async def find(services: Services, agent_id: str, upload_id: str) -> tuple[UploadRow, TaskRow]:
    """An agent's own upload, and its task. Raises NotFound and Forbidden."""
    query = select(UploadRow, TaskRow).join(TaskRow, TaskRow.id == UploadRow.task_id).where(UploadRow.id == upload_id)
    for upload, task in await services.database.fetch(query):
        if task.agent_id != agent_id:
            message = "this upload belongs to another agent"
            raise Forbidden(message)
        return upload, task
    raise NotFound("upload", upload_id)


async def append(
    services: Services, holder: LeaseHolder, upload_id: str, offset: int, data: bytes, content_digest: str
) -> int:
    """Append a chunk at the upload's end. Returns the new offset.

    Raises NotFound, Forbidden, LeaseLost, BadChunk, WrongOffset, TooLarge, StorageFull.
    """
    async with _locks.of(upload_id):
        claim, current = await _find_leased(services, holder, upload_id)
        if not matches_content_digest(data, content_digest):
            raise BadChunk
        if offset != current.offset:
            raise WrongOffset(current.offset, offset)
        end = offset + len(data)
        if end > current.n_bytes:
            raise TooLarge(end, current.n_bytes)
        await services.storage.staging.write(upload_id, offset, data)
        async with services.database.write("append") as session:
            moved = await session.execute(
                update(UploadRow)
                .where(UploadRow.id == upload_id, UploadRow.offset == offset, exists().where(is_leased(claim)))
                .values(offset=end, updated_at=services.clock.now())
                .returning(UploadRow.id)
                .execution_options(synchronize_session=False)
            )
            if moved.first() is None:  # another request appended, or the lease was lost, meanwhile
                raise WrongOffset(current.offset, offset)
    log.info("upload %s: %d bytes at %d of %d", upload_id, len(data), offset, current.n_bytes)
    return end


async def _find_leased(services: Services, holder: LeaseHolder, upload_id: str) -> tuple[LeaseClaim, UploadRow]:
    """An upload of a task whose lease the holder has. Raises NotFound, Forbidden and LeaseLost."""
    upload, task = await find(services, holder.agent_id, upload_id)
    claim = holder.claim_of(task.id)
    if check_held(task, claim).state is not TaskState.LEASED:
        raise LeaseLost(claim.task_id, claim.attempt)
    return claim, upload


async def withdraw(services: Services, holder: LeaseHolder, upload_id: str) -> None:
    """Delete an upload on its agent's request. Raises NotFound, Forbidden and LeaseLost."""
    async with _locks.of(upload_id):
        await _find_leased(services, holder, upload_id)
        await discard(services, upload_id)


async def discard(services: Services, upload_id: str) -> None:
    """Delete an upload: its row, its chunks, and the blob made from it unless that is referenced."""
    async with services.database.write("discard upload") as session:
        deleted = await delete_rows(session, UploadRow.id == upload_id)
    await delete_bytes(services, deleted)


@dataclass(frozen=True)
class DeletedUpload:
    """An upload whose row is deleted, but not yet its bytes."""

    id: str
    purpose: BlobKind
    sha256: str


async def delete_rows(session: AsyncSession, condition: ColumnElement[bool]) -> list[DeletedUpload]:
    """Delete uploads' rows. Rows go before bytes: a row that outlived its chunks would claim that they exist."""
    statement = delete(UploadRow).where(condition).returning(UploadRow.id, UploadRow.purpose, UploadRow.sha256)
    return [DeletedUpload(*row) for row in (await session.execute(statement)).all()]


async def delete_bytes(services: Services, uploads: Collection[DeletedUpload], keep: Collection[str] = ()) -> None:
    """Delete the chunks of deleted uploads, and release the blobs made from them. keep: digests of blobs that stay."""
    for upload in uploads:
        await services.storage.staging.discard(upload.id)
    await release_blobs(
        services.storage, [(upload.purpose, upload.sha256) for upload in uploads if upload.sha256 not in keep]
    )
