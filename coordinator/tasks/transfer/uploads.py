"""Resumable uploads: begun, replaced and deleted. ``appending`` adds chunks at their end, so an offset never falls.

What one agent can have stored is bounded: a task has one upload for each of its files, of exactly the size that the
contract gives it, and another digest replaces what was there. All unfinished uploads of an agent share a limit.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.ids import new_id
from coordinator.database.prepared import Prepared, Transaction, given, given_each
from coordinator.database.tables import TaskRow, UploadRow
from coordinator.errors import Invalid, LeaseLost, TooLarge, UploadsFull
from coordinator.process.threads import in_thread_if_large
from coordinator.services import Services
from coordinator.storage.retention import release_blobs
from coordinator.tasks.claims import LeaseClaim, LeaseHolder
from coordinator.tasks.facts import CampaignOfFiles, ParticipantFacts, TaskFacts
from coordinator.tasks.held import IS_LEASED, fence_of, find_held_with_campaign
from coordinator.tasks.leases import LOCK_AGENT
from coordinator.tasks.transfer.appending import SENDERS
from coordinator.tasks.transfer.found_uploads import find_leased
from shared import algorithms
from shared.adapters.files import Contract
from shared.adapters.lora import at_rank, trained
from shared.adapters.updates import encoded
from shared.campaign.spec import LoraSection, Wire
from shared.states import BlobKind, TaskKind
from shared.wire.tasks.leases import UploadReply, UploadRequest

log = logging.getLogger(__name__)

_STILL_LEASED = Prepared(select(TaskRow.id).where(IS_LEASED))
_OF_DELETED = (UploadRow.id, UploadRow.purpose, UploadRow.sha256)
_DELETE_OTHERS = Prepared(
    delete(UploadRow)
    .where(
        UploadRow.task_id == given("task"),
        UploadRow.purpose == given("purpose"),
        (UploadRow.sha256 != given("sha256")) | (UploadRow.n_bytes != given("n_bytes")),
    )
    .returning(*_OF_DELETED)
)
_DELETE_OF_TASK = Prepared(delete(UploadRow).where(UploadRow.task_id == given("task")).returning(*_OF_DELETED))
_UPLOAD_OF_FILE = Prepared(
    select(UploadRow.id, UploadRow.offset).where(
        UploadRow.task_id == given("task"), UploadRow.purpose == given("purpose")
    )
)
_ADD = Prepared(
    insert(UploadRow).values(offset=0, **given_each("id", "task_id", "purpose", "sha256", "n_bytes", "updated_at"))
)
_UPLOADED = Prepared(
    select(func.coalesce(func.sum(UploadRow.n_bytes), 0))
    .join(TaskRow, TaskRow.id == UploadRow.task_id)
    .where(TaskRow.agent_id == given("agent"), TaskRow.state.in_(lifecycle.LIVE_TASK))
)


async def start(services: Services, claim: LeaseClaim, request: UploadRequest) -> UploadReply:
    """Begin an upload for a leased task, or continue the one that an earlier attempt began.

    One with another digest is replaced: the agent trained again. Raises LeaseLost, Invalid if the task has no such file
    or the file has another size, TooLarge and UploadsFull, all before the first byte is sent.
    """
    task, campaign, participant = await find_held_with_campaign(services, claim)
    limits = services.settings.storage
    contract = await contract_of(campaign, task, participant, request.purpose)
    _check_size(request, contract, limits.max_adapter_bytes)
    async with services.database.transact("start_upload") as transaction:
        # the agent first, as in acquiring, so that requests at the same time keep its limit together
        await LOCK_AGENT.rows(transaction, agent=claim.agent_id)
        if await _STILL_LEASED.first(transaction, **fence_of(claim)) is None:
            raise LeaseLost(claim.task_id, claim.attempt)
        file = {"task": task.id, "purpose": request.purpose}
        bytes_of = {"sha256": request.sha256, "n_bytes": request.n_bytes}
        replaced = deleted_uploads(await _DELETE_OTHERS.rows(transaction, **file, **bytes_of))
        begun = await _UPLOAD_OF_FILE.first(transaction, **file)
        if begun is None:
            await _check_total(transaction, claim.agent_id, request.n_bytes, limits.max_upload_bytes_per_agent)
            now = services.clock.now()
            begun = new_id(now), 0
            await _ADD.rows(
                transaction, id=begun[0], task_id=task.id, purpose=request.purpose, updated_at=now, **bytes_of
            )
    upload = UploadReply(id=begun[0], offset=begun[1], n_bytes=request.n_bytes)
    log.debug("upload %s of %s: has %d of %d bytes", upload.id, request.purpose, upload.offset, upload.n_bytes)
    await delete_bytes(services, replaced)
    return upload


def _check_size(request: UploadRequest, contract: Contract | None, max_adapter_bytes: int) -> None:
    """Raise TooLarge or Invalid unless a file of this size can be what the task asks for."""
    limit = contract.file_bytes if contract is not None else max_adapter_bytes
    if request.n_bytes > limit:
        raise TooLarge(request.n_bytes, limit)
    if contract is not None and request.n_bytes < limit:
        message = f"{request.n_bytes} bytes are too few: a {request.purpose} of this task has {limit} bytes"
        raise Invalid(("n_bytes", message))


async def _check_total(transaction: Transaction, agent_id: str, n_bytes: int, limit: int) -> None:
    """Raise UploadsFull if an agent's unfinished uploads would have too many bytes together.

    Those of ended tasks do not count: they go with the task, or are swept up.
    """
    [(stored,)] = await _UPLOADED.rows(transaction, agent=agent_id)
    total = int(stored) + n_bytes
    if total > limit:
        raise UploadsFull(total, limit)


async def contract_of(
    campaign: CampaignOfFiles, task: TaskFacts, participant: ParticipantFacts, purpose: BlobKind
) -> Contract | None:
    """The contract of an uploaded file as it travels, at the client's own rank.

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
        spec = campaign.spec
        extras = algorithms.find(spec.algorithm.name).client.extras
        slots = extras if purpose is BlobKind.EXTRAS else None
        if purpose is BlobKind.DELTA or slots:
            asked = (campaign.contract, participant.rank, spec.lora.freeze_a, slots, spec.wire)
            # it may have thousands of tensors
            return await in_thread_if_large(len(campaign.contract), partial(_contract_of_updates, *asked))
    raise Invalid(("purpose", f"a task of kind {task.kind} has no file {purpose}"))


@lru_cache(maxsize=64)
def _contract_of_updates(
    adapter: str, rank: int, freeze_a: bool, slots: tuple[str, ...] | None, wire: Wire
) -> Contract:
    """The contract of updates of an adapter, given as JSON, at a client's rank. Cached: each upload asks for it.

    slots: of the file of extras; None for the delta.
    """
    contract = trained(at_rank(Contract.from_json(adapter), rank), LoraSection(rank=rank, freeze_a=freeze_a))
    return encoded(contract if slots is None else contract.in_slots(slots), wire)


async def withdraw(services: Services, holder: LeaseHolder, upload_id: str) -> None:
    """Delete an upload on its agent's request. Raises NotFound, Forbidden and LeaseLost."""
    async with SENDERS.turn(upload_id):
        await find_leased(services, holder, upload_id)
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
    statement = delete(UploadRow).where(condition).returning(*_OF_DELETED)
    return deleted_uploads((await session.execute(statement)).all())


async def delete_rows_of_task(within: AsyncSession | Transaction, task_id: str) -> list[DeletedUpload]:
    """Delete the rows of a task's uploads, as ``delete_rows`` does."""
    return deleted_uploads(await _DELETE_OF_TASK.rows(within, task=task_id))


def deleted_uploads(rows: Iterable[Any]) -> list[DeletedUpload]:
    """Rows of ``_OF_DELETED``."""
    return [DeletedUpload(*row) for row in rows]


async def delete_bytes(services: Services, uploads: Collection[DeletedUpload], keep: Collection[str] = ()) -> None:
    """Delete the chunks of deleted uploads, and release the blobs made from them. keep: digests of blobs that stay."""
    for upload in uploads:
        await services.storage.staging.discard(upload.id)
    await release_blobs(
        services.storage, [(upload.purpose, upload.sha256) for upload in uploads if upload.sha256 not in keep]
    )
