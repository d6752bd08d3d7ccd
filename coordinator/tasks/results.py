"""Ends tasks: accepts a result, or records a failure.

Uploads are checked and stored as blobs before the transaction (``result_files``). The transaction references them, ends
the task, records the metrics and the event, and makes the campaign due for the engine (``ticks``). If it does not
commit (the lease was lost, the process died), the blobs stay with their uploads, for the task's next attempt.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.ids import new_id
from coordinator.database.prepared import Prepared, Transaction, given, given_each
from coordinator.database.tables import (
    AdapterRow,
    BlobUseRow,
    CampaignRow,
    MetricRow,
    ParticipantRow,
    TaskRow,
)
from coordinator.errors import BadUpdate, Invalid, LeaseLost, ResultDiffers
from coordinator.events.log import record
from coordinator.services import Services
from coordinator.signing import chain
from coordinator.storage.retention import release_blobs
from coordinator.tasks.checks.metric_checks import check_metrics, check_scores
from coordinator.tasks.checks.result_checks import check_against_algorithm, check_prepared
from coordinator.tasks.claims import LeaseClaim
from coordinator.tasks.facts import CampaignFacts, ParticipantFacts, TaskFacts
from coordinator.tasks.held import find_held_with_campaign, lock_held, lock_held_facts
from coordinator.tasks.keyed_locks import KeyedLocks
from coordinator.tasks.leases import end, task_facts
from coordinator.tasks.owners import owners_word
from coordinator.tasks.result_files import check_and_store, files_of, find_upload, replaced
from coordinator.tasks.ticks import make_due, result_came
from coordinator.tasks.transfer import uploads
from shared.adapters.files import Contract
from shared.events import EventType
from shared.owners_word import STATES
from shared.states import BlobKind, ParticipantState, TaskKind, TaskState
from shared.wire.base import BlobRef
from shared.wire.tasks.leases import Failure, FailureKind
from shared.wire.tasks.results import BenchmarkResult, EvaluateResult, InitResult, PrepareResult, Result, TrainResult

_locks = KeyedLocks()

_USE_BLOB = Prepared(
    insert(BlobUseRow).values(
        stored=True, **given_each("id", "campaign_id", "kind", "round", "task_id", "sha256", "n_bytes")
    )
)
_ADD_METRIC = Prepared(
    insert(MetricRow).values(
        given_each("id", "campaign_id", "round", "name", "client_number", "agent_name", "value", "at")
    )
)
_NOTE_EVALUATED = Prepared(
    update(ParticipantRow)
    .where(
        ParticipantRow.campaign_id == given("campaign"),
        ParticipantRow.agent_id == given("agent"),
        func.coalesce(ParticipantRow.evaluated_adapter, -1) < given("number"),  # a late one may be of an older adapter
    )
    .values(evaluated_adapter=given("number"))
)


async def accept(services: Services, claim: LeaseClaim, result: Result) -> None:
    """Accept a task's result. Repeating the same result changes nothing.

    Raises LeaseLost, Invalid, ResultDiffers if the task has ended with another result, and BadUpdate. After BadUpdate
    the task has failed, and the round continues without it.
    """
    async with _locks.of(claim.task_id):  # check concurrent copies of the same result once
        await _accept(services, claim, result)


async def _accept(services: Services, claim: LeaseClaim, result: Result) -> None:
    task, campaign, participant = await find_held_with_campaign(services, claim)
    if _is_replay(task, result):
        return
    if result.kind != task.kind:
        raise Invalid(("kind", f"the result is of kind {result.kind}, but the task is of kind {task.kind}"))
    if isinstance(result, TrainResult | EvaluateResult):
        check_metrics(result, campaign.spec.kind)
    if isinstance(result, PrepareResult):
        check_prepared(campaign, result)
    stored: list[tuple[BlobKind, BlobRef]] = []
    contract: Contract | None = None
    try:
        if isinstance(result, TrainResult):
            check_against_algorithm(campaign, participant, result)
        for purpose, sha256 in files_of(result):
            upload = await find_upload(services, task, purpose, sha256)
            expected = await uploads.contract_of(campaign, task, participant, purpose)
            contract = await check_and_store(services, campaign, upload, expected)
            stored.append((purpose, upload.ref))
        if isinstance(result, TrainResult | EvaluateResult):
            await _commit_metrics(services, claim, campaign.id, participant, result, stored)
        else:
            await _commit(services, claim, campaign.id, result, stored, contract)
    except BadUpdate as error:
        failure = Failure.of(FailureKind.BAD_UPDATE, f"the coordinator refused the update: {error}")
        await fail(services, claim, failure)
        raise
    except Invalid:  # an upload was replaced meanwhile, so nothing awaits what was stored of it
        await release_blobs(services.storage, [(kind, ref.sha256) for kind, ref in stored])
        raise


async def fail(services: Services, claim: LeaseClaim, failure: Failure) -> None:
    """End a task with a failure, and delete its uploads. Repeating the same failure changes nothing.

    Raises LeaseLost.
    """
    recorded = failure.model_dump(mode="json")
    async with services.database.write("failure") as session:
        campaign, task = await lock_held(session, claim)
        if task.state in (TaskState.FAILED, TaskState.CANCELLED) and task.failure == recorded:
            return
        deleted = await uploads.delete_rows_of_task(session, task.id)
        now = services.clock.now()  # under the lock, so that ids and times rise with event numbers
        of_owner = STATES.get(failure.kind)
        state = TaskState.FAILED if of_owner is None else TaskState.CANCELLED  # an owner's word is no failure
        await end(session, claim, task, state, failure=recorded, ended_at=now)
        participant = await session.get_one(ParticipantRow, (campaign.id, task.agent_id))
        if of_owner is not None:
            await owners_word.take(session, campaign, participant, of_owner, failure.message, now)
        elif task.kind is TaskKind.PREPARE:
            await lifecycle.move(session, participant, ParticipantState.FAILED, reason=failure.message)
        make_due(campaign, now)
        services.notifiers.after_commit(session, campaign_id=campaign.id)
        if of_owner is None:
            facts = {"failure": failure.kind, "message": failure.message}
            record(session, campaign, now, EventType.TASK_FAILED, **task_facts(task), **facts)
    await uploads.delete_bytes(services, deleted)


def _is_replay(task: TaskRow | TaskFacts, result: Result) -> bool:
    """Whether the same result was accepted before. Raises ResultDiffers and LeaseLost."""
    if task.state is TaskState.LEASED:
        return False
    if task.state is TaskState.DONE:
        if task.result == result.model_dump(mode="json"):
            return True
        raise ResultDiffers(task.id)
    raise LeaseLost(task.id, task.attempt)


async def _commit_metrics(
    services: Services,
    claim: LeaseClaim,
    campaign_id: str,
    participant: ParticipantFacts,
    result: TrainResult | EvaluateResult,
    stored: list[tuple[BlobKind, BlobRef]],
) -> None:
    """Commit the result of a training or an evaluation, as ``_commit`` does the others: rounds are made of these."""
    async with services.database.transact("result") as transaction:
        campaign, task = await lock_held_facts(transaction, claim, campaign_id)
        if _is_replay(task, result):
            return
        deleted, now = await _end_with(services, transaction, claim, campaign, task, result, stored)
        await _add_metrics(transaction, task, participant, result.metrics, now)
        if isinstance(result, EvaluateResult):
            of_agent = {"campaign": campaign.id, "agent": task.agent_id}
            await _NOTE_EVALUATED.rows(transaction, **of_agent, number=task.round or 0)
        await result_came(transaction, services, campaign, task, now)
        record(transaction, campaign, now, EventType.TASK_DONE, **task_facts(task), agent=participant.agent_name)
    await uploads.delete_bytes(services, deleted, keep={ref.sha256 for _, ref in stored})


async def _commit(
    services: Services,
    claim: LeaseClaim,
    campaign_id: str,
    result: Result,
    stored: list[tuple[BlobKind, BlobRef]],
    contract: Contract | None,
) -> None:
    """Commit a result: end the task, and reference its blobs. Raises LeaseLost, ResultDiffers, and Invalid for scores
    that are wrong and if an upload was replaced while it was checked.

    The task's uploads are deleted. From here on its blobs are stored because the campaign references them.
    """
    async with services.database.write("result") as session:
        campaign, task = await lock_held(session, claim, campaign_id)
        if _is_replay(task, result):
            return
        deleted, now = await _end_with(services, session, claim, campaign, task, result, stored)
        participant = await session.get_one(ParticipantRow, (campaign.id, task.agent_id))
        if isinstance(result, PrepareResult):
            await _apply_prepare(session, participant, result)
        elif isinstance(result, InitResult):
            assert contract is not None
            campaign.contract = contract.to_json()
            session.add(_adapter_zero(campaign, stored[0][1], now))
            chain.say_adapter(session, campaign, 0, stored[0][1].sha256)
        elif isinstance(result, BenchmarkResult):  # its numbers are recorded with their adapter
            _settle_items(campaign, participant, task, result)
        await result_came(session, services, campaign, task, now)
        record(session, campaign, now, EventType.TASK_DONE, **task_facts(task), agent=participant.agent_name)
    await uploads.delete_bytes(services, deleted, keep={ref.sha256 for _, ref in stored})


async def _end_with(
    services: Services,
    within: AsyncSession | Transaction,
    claim: LeaseClaim,
    campaign: CampaignRow | CampaignFacts,
    task: TaskRow | TaskFacts,
    result: Result,
    stored: list[tuple[BlobKind, BlobRef]],
) -> tuple[list[uploads.DeletedUpload], datetime]:
    """End a task of a locked campaign with its result, and have the campaign reference what was stored of it.

    Returns the uploads whose bytes are to be deleted, and the time. Raises LeaseLost and Invalid.
    """
    deleted = await _take_uploads(within, task, stored)
    now = services.clock.now()  # under the lock: a metric with an earlier id must not appear later, for pages' sake
    await end(within, claim, task, TaskState.DONE, result=result.model_dump(mode="json"), ended_at=now)
    await _use_blobs(within, campaign, task, stored, now)
    return deleted, now


async def _take_uploads(
    within: AsyncSession | Transaction, task: TaskRow | TaskFacts, stored: list[tuple[BlobKind, BlobRef]]
) -> list[uploads.DeletedUpload]:
    """Delete the rows of a task's uploads. Raises Invalid unless what was stored is of them."""
    deleted = await uploads.delete_rows_of_task(within, task.id)
    awaited = {(upload.purpose, upload.sha256) for upload in deleted}
    for kind, ref in stored:
        if (kind, ref.sha256) not in awaited:
            raise replaced(kind, ref.sha256)
    return deleted


async def _use_blobs(
    within: AsyncSession | Transaction,
    campaign: CampaignRow | CampaignFacts,
    task: TaskRow | TaskFacts,
    stored: list[tuple[BlobKind, BlobRef]],
    now: datetime,
) -> None:
    """Have the campaign reference a task's blobs."""
    of_task = {"campaign_id": campaign.id, "round": _round_of_files(campaign, task), "task_id": task.id}
    uses = [
        {**of_task, "id": new_id(now), "kind": kind, "sha256": ref.sha256, "n_bytes": ref.n_bytes}
        for kind, ref in stored
    ]
    if uses:
        await _USE_BLOB.run_each(within, uses)


def _round_of_files(campaign: CampaignRow | CampaignFacts, task: TaskRow | TaskFacts) -> int:
    """The round whose retention governs a task's files. For a late update it is the round that is open now."""
    if task.kind is TaskKind.TRAIN:
        return max(task.round or 0, campaign.rounds_closed + 1)
    return 0


async def _apply_prepare(session: AsyncSession, participant: ParticipantRow, result: PrepareResult) -> None:
    if result.n_train == 0:
        reason = "the data has no training rows"
        await lifecycle.move(session, participant, ParticipantState.FAILED, reason=reason)
        return
    await lifecycle.move(
        session,
        participant,
        ParticipantState.PREPARED,
        n_train=result.n_train,
        n_held_out=result.n_held_out,
        rank=result.rank,
        cpu_dtype=result.cpu_dtype,
        report=result.report,
        evaluates=result.evaluates,
        fingerprint=result.fingerprint.model_dump(),
        reason=_notices(result),
    )


def _notices(result: PrepareResult) -> str | None:
    """What the operator should know about an agent that can train; None if there is nothing."""
    rows = "1 row is" if result.dropped == 1 else f"{result.dropped} rows are"
    dropped = [f"{rows} skipped (the owner's check-data counts the reasons)"] if result.dropped else []
    return "; ".join([*dropped, *result.notices]) or None


def _settle_items(campaign: CampaignRow, participant: ParticipantRow, task: TaskRow, result: BenchmarkResult) -> None:
    """Have the first number of each benchmark settle its items for the whole campaign.

    Raises Invalid for wrong scores: under the lock, since another agent may settle others meanwhile.
    """
    offered = {name: offer["items_sha256"] for name, offer in participant.offers.items()}
    check_scores(result, task.benchmarks or (), offered | campaign.benchmark_items)
    measured = {score.name: score.items_sha256 for score in result.scores if score.values}
    campaign.benchmark_items = campaign.benchmark_items | measured


def _adapter_zero(campaign: CampaignRow, ref: BlobRef, now: datetime) -> AdapterRow:
    return AdapterRow(
        campaign_id=campaign.id, number=0, sha256=ref.sha256, n_bytes=ref.n_bytes, contributions=[], created_at=now
    )


async def _add_metrics(
    transaction: Transaction,
    task: TaskFacts,
    participant: ParticipantFacts,
    metrics: Mapping[str, float],
    now: datetime,
) -> None:
    """Record a client's metrics."""
    of_task = {
        "campaign_id": task.campaign_id,
        "round": task.round,
        "client_number": participant.client_number,
        "agent_name": participant.agent_name,
        "at": now,
    }
    if metrics:
        rows = [{**of_task, "id": new_id(now), "name": name, "value": value} for name, value in metrics.items()]
        await _ADD_METRIC.run_each(transaction, rows)
