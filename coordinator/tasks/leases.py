"""Leases: who may work on a task, until when, and as which attempt.

Safety does not depend on clocks. ``attempt`` rises with each grant and is the fencing token: requests of older attempts
match no row. The expiry of a lease only lets the same agent acquire the task again.

An agent may take its task, give it back and take it again for as long as it likes. What that costs is bounded: each
lease of a task lets the next one wait longer (``_pause_s``), and its events are recorded ever more seldom
(``_is_recorded``). Only the instance that holds a task gets it again at once: it lost a reply, and works on. The limit
of an agent's requests bounds what that writes.
"""

import logging
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import and_, null, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import campaign_moves, lifecycle
from coordinator.clock import later
from coordinator.database.parsed_specs import parsed_spec
from coordinator.database.prepared import Prepared, Transaction, given, given_each
from coordinator.database.tables import AgentRow, CampaignRow, TaskRow
from coordinator.errors import (
    AgentAlreadyRunning,
    AgentRevoked,
    AssignmentFailed,
    CoordinatorError,
    IllegalMove,
    LeaseLost,
)
from coordinator.events.log import Logged, record
from coordinator.failing_data import words_of
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.settings import LeaseSettings
from coordinator.signing.reading import statements_with_lease
from coordinator.tasks.assignments import build_assignment
from coordinator.tasks.claims import LeaseClaim
from coordinator.tasks.facts import (
    TASK,
    CampaignFacts,
    TaskFacts,
    lock_campaign_facts,
)
from coordinator.tasks.held import FENCE, IS_LEASED, fence_of, lock_held
from shared.credentials import hash_secret, new_secret
from shared.events import EventType
from shared.states import AgentState, TaskState
from shared.wire.tasks.assignments import Assignment
from shared.wire.tasks.leases import MAX_RENEWAL_S, Directive, LeaseRequest, RenewReply, RenewRequest, TaskLease

log = logging.getLogger(__name__)

NO_LEASE: dict[str, Any] = {"token_hash": None, "instance_id": None, "lease_expires_at": None, "progress": None}
"""Columns that clear a lease: nobody works on the task now. ``attempt`` is kept: it is the fencing token."""
_FREE_LEASES = 2
"""Leases of a task without a pause: the first, and one more for a lost reply or an agent that restarts."""
_RECORDED_EACH = 3
"""The first leases of a task, each of which is recorded; of the further ones only each power of two is."""
_RENEW_S = 0.5
"""Shortest time between two renewals that are written. Agents renew at most once a second."""

LOCK_AGENT = Prepared(
    select(AgentRow.name, AgentRow.state, AgentRow.version)
    .where(AgentRow.id == given("agent"))
    .with_for_update(key_share=True)
)
_NOTE_VERSION = Prepared(update(AgentRow).where(AgentRow.id == given("agent")).values(version=given("version")))
_IS_OPEN = and_(
    TaskRow.state.in_(lifecycle.OPEN_TASK),
    (TaskRow.state == TaskState.LEASED) | CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN),
)
"""Its agent holds the task, or can be granted it."""
_TASKS_TO_DO = Prepared(
    select(TaskRow.instance_id, TaskRow.next_grant_at)
    .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
    .where(TaskRow.agent_id == given("agent"), _IS_OPEN)
    .union_all(
        select(null(), null()).where(AgentRow.id == given("agent"), AgentRow.state != AgentState.ACTIVE),
    )
)
_TASK_DUE = Prepared(
    select(CampaignRow.spec_json, *TASK)
    .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
    .where(
        TaskRow.agent_id == given("agent"),
        _IS_OPEN,
        (TaskRow.state == TaskState.LEASED) | TaskRow.next_grant_at.is_(None) | (TaskRow.next_grant_at <= given("now")),
    )
    .order_by((TaskRow.state == TaskState.LEASED).desc(), TaskRow.id)
    .limit(1)
    .offset(given("skipped"))
)
_ENDED = Prepared(select(TaskRow.id).where(*FENCE, TaskRow.state.in_((TaskState.CANCELLED, TaskState.SUPERSEDED))))
_RENEWED = Prepared(select(TaskRow.lease_expires_at).where(IS_LEASED, TaskRow.renewed_at > given("since")))
_RENEW = Prepared(
    update(TaskRow).where(IS_LEASED).values(given_each("lease_expires_at", "renewed_at")).returning(TaskRow.id)
)
_RENEW_AND_REPORT = Prepared(
    update(TaskRow)
    .where(IS_LEASED)
    .values(given_each("lease_expires_at", "renewed_at", "progress"))
    .returning(TaskRow.id)
)


async def acquire(
    services: Services,
    transaction: Transaction,
    now: datetime,
    agent_id: str,
    request: LeaseRequest,
    *,
    has_waited: bool,
) -> TaskLease | None:
    """Grant the agent its next task, or grant the task that it holds again. Returns None if there is no work.

    An instance that asks while it holds a task has lost the reply or was restarted, so it gets the same task as a new
    attempt. A request that has waited gets nothing then: the task was granted to a later request of the instance.

    A task that nobody holds and whose next lease is not due yet is passed over. Raises AgentAlreadyRunning while
    another instance holds a live lease, AgentRevoked, AssignmentFailed and SigningKeyUnusable.

    Args:
        services: with the settings, and the key that statements are signed by.
        transaction: its own.
        now: the time.
        agent_id: the agent.
        request: names the instance that asks, and the statements that it has.
        has_waited: whether this request has waited for work.
    """
    # lock the agent before any campaign, as revoking does, so that concurrent requests never get a task each; not its
    # key (key_share): new tasks reference the key, and the engine that adds them holds their campaign's lock
    [(name, state, version)] = await LOCK_AGENT.rows(transaction, agent=agent_id)  # agents are revoked, never deleted
    if state is not AgentState.ACTIVE:
        raise AgentRevoked(name)
    task = await _next_task(transaction, now, agent_id)
    if task is None:
        return None
    if task.state is TaskState.LEASED and (expires_at := task.lease_expires_at or now) > now:
        if task.instance_id != request.instance_id:
            raise AgentAlreadyRunning(name, expires_at)
        if has_waited:
            return None
    elif task.next_grant_at is not None and task.next_grant_at > now:
        return None
    if version != request.version:
        await _NOTE_VERSION.rows(transaction, agent=agent_id, version=request.version)
    return await _grant(services, transaction, now, task, request)


async def seconds_to_work(services: Services, agent_id: str) -> float | None:
    """Seconds until ``acquire`` is worth a transaction, None while there is no work: most waiting requests find none.

    0 for a revoked agent too, so that ``acquire`` raises AgentRevoked, and while an instance holds a lease.
    """
    now = services.clock.now()
    pauses_s = [
        0.0 if due_at is None or holder is not None else max(0.0, (due_at - now).total_seconds())
        for holder, due_at in await services.database.ask(_TASKS_TO_DO, agent=agent_id)
    ]
    return min(pauses_s, default=None)


async def _next_task(transaction: Transaction, now: datetime, agent_id: str) -> TaskFacts | None:
    """The task that an agent holds, otherwise its oldest task in an active campaign whose next lease is due.

    Campaigns whose plug-ins are missing here are passed over; the engine pauses them.
    """
    for skipped in count():
        row = await _TASK_DUE.first(transaction, agent=agent_id, now=now, skipped=skipped)
        if row is None:
            break
        spec_json, *columns = row
        task = TaskFacts(*columns)
        missing = parsed_spec(task.campaign_id, spec_json).missing_plugin()
        if missing is None or (task.state is TaskState.LEASED and (task.lease_expires_at or now) > now):
            return task
        log.debug("no task of campaign %s for agent %s: %s", task.campaign_id, agent_id, missing)
    return None


async def _grant(
    services: Services, transaction: Transaction, now: datetime, task: TaskFacts, request: LeaseRequest
) -> TaskLease | None:
    settings = services.settings.lease
    campaign = await lock_campaign_facts(transaction, task.campaign_id)
    token = new_secret()
    ttl_s = settings.ttl_s
    expires_at = later(now, ttl_s)
    attempt = task.attempt + 1
    try:
        await lifecycle.move(
            transaction,
            task,
            TaskState.LEASED,
            fence=(task.attempt, task.token_hash),
            attempt=attempt,
            token_hash=hash_secret(token),
            instance_id=request.instance_id,
            lease_expires_at=expires_at,
            renewed_at=None,
            next_grant_at=later(now, _pause_s(attempt, settings)),
        )
    except IllegalMove:
        return None  # cancelled or granted meanwhile; the agent asks again
    record_attempt(transaction, campaign, now, EventType.TASK_LEASED, task)
    return TaskLease(
        task_id=task.id,
        attempt=attempt,
        token=token,
        expires_at=expires_at,
        renew_every_s=min(ttl_s / 3, MAX_RENEWAL_S),
        assignment=await _assignment(transaction, campaign, task),
        statements=await statements_with_lease(
            transaction, services.signer, campaign.id, request.statements.get(campaign.id)
        ),
    )


async def _assignment(transaction: Transaction, campaign: CampaignFacts, task: TaskFacts) -> Assignment:
    """Build a task's assignment. Raises AssignmentFailed if the campaign's data is the cause: it fails for ever."""
    try:
        return await build_assignment(transaction, campaign, task)
    except (CoordinatorError, DBAPIError, NoConnection, OSError):  # of the database, of this machine
        raise
    except Exception as error:
        raise AssignmentFailed(campaign.id, f"no assignment can be built for its agents: {words_of(error)}") from error


async def pause_without_assignment(services: Services, failed: AssignmentFailed) -> None:
    """Pause a campaign whose agents can get no assignment, unless it rests already. Others are not touched."""
    async with services.database.write("pause without assignment") as session:
        campaign = await lock_campaign(session, failed.campaign_id)
        if campaign.state not in lifecycle.ACTIVE_CAMPAIGN:
            return
        await campaign_moves.pause(session, campaign, services.clock.now(), failed.reason)
        services.notifiers.after_commit(session, campaign_id=campaign.id)
    log.error("campaign %s is paused: %s", failed.campaign_id, failed.reason)


def _pause_s(attempt: int, settings: LeaseSettings) -> float:
    """Seconds from this lease of a task to the next: 0, 0, 1, 2, 4, … A lease that expired is granted again at once."""
    if attempt < _FREE_LEASES:
        return 0.0
    return min(2.0 ** min(attempt - _FREE_LEASES, 20), settings.max_pause_s, settings.ttl_s * 2 / 3)


def record_attempt(
    within: AsyncSession | Transaction, campaign: Logged, now: datetime, event: EventType, task: TaskRow | TaskFacts
) -> None:
    """Record an event of a task's lease, unless it is one of many."""
    if _is_recorded(task.attempt):
        record(within, campaign, now, event, **task_facts(task), attempt=task.attempt)


def _is_recorded(attempt: int) -> bool:
    """Whether the events of this lease of a task are recorded: those of the leases 1, 2, 3, 4, 8, 16, …"""
    return attempt <= _RECORDED_EACH or attempt & (attempt - 1) == 0


async def end(
    within: AsyncSession | Transaction, claim: LeaseClaim, task: TaskRow | TaskFacts, to: TaskState, **values: object
) -> None:
    """End the attempt, with compare-and-set on id, attempt, token and state together. Raises LeaseLost."""
    try:
        await lifecycle.move(within, task, to, fence=(claim.attempt, claim.token_hash), **values)
    except IllegalMove as error:
        raise LeaseLost(claim.task_id, claim.attempt) from error


async def renew(services: Services, claim: LeaseClaim, request: RenewRequest) -> RenewReply:
    """Renew a lease and record its progress. Raises LeaseLost.

    A renewal that follows another one at once is answered and not written. If the task was cancelled or superseded, the
    reply's directive is CANCEL.
    """
    now = services.clock.now()
    just_now = now - timedelta(seconds=min(_RENEW_S, services.settings.lease.ttl_s / 10))
    for (expires_at,) in await services.database.ask(_RENEWED, **fence_of(claim), since=just_now):
        if expires_at is not None:
            return RenewReply(expires_at=expires_at, directive=Directive.CONTINUE)
    async with services.database.transact("renew") as transaction:
        return await _renew(transaction, now, services.settings.lease.ttl_s, claim, request)


async def _renew(
    transaction: Transaction, now: datetime, ttl_s: float, claim: LeaseClaim, request: RenewRequest
) -> RenewReply:
    expires_at = later(now, ttl_s)
    times = {"lease_expires_at": expires_at, "renewed_at": now}
    if request.progress is None:
        renewed = await _RENEW.first(transaction, **fence_of(claim), **times)
    else:
        progress = request.progress.model_dump(mode="json")
        renewed = await _RENEW_AND_REPORT.first(transaction, **fence_of(claim), **times, progress=progress)
    if renewed is not None:
        return RenewReply(expires_at=expires_at, directive=Directive.CONTINUE)
    ended = await _ENDED.first(transaction, **fence_of(claim))
    if ended is not None:
        return RenewReply(expires_at=now, directive=Directive.CANCEL)
    raise LeaseLost(claim.task_id, claim.attempt)


async def release(session: AsyncSession, now: datetime, claim: LeaseClaim) -> None:
    """Return an unfinished task because its agent stops. Raises LeaseLost."""
    campaign, task = await lock_held(session, claim)
    if task.state is not TaskState.LEASED:  # of a held one only its owner's word makes a task again
        raise LeaseLost(claim.task_id, claim.attempt)
    await end(session, claim, task, TaskState.PENDING, **NO_LEASE)
    record_attempt(session, campaign, now, EventType.TASK_RELEASED, task)


async def expire(session: AsyncSession, now: datetime) -> int:
    """Free the tasks whose lease has expired. Returns the number of expired leases found."""
    query = select(TaskRow).where(TaskRow.state == TaskState.LEASED, TaskRow.lease_expires_at < now)
    tasks = (await session.scalars(query.order_by(TaskRow.campaign_id, TaskRow.id))).all()
    for task in tasks:
        campaign = await lock_campaign(session, task.campaign_id)
        await session.refresh(task)  # it may have been renewed or ended before the lock was ours
        if task.state is not TaskState.LEASED or task.lease_expires_at is None or task.lease_expires_at >= now:
            continue
        try:
            await lifecycle.move(session, task, TaskState.PENDING, fence=(task.attempt, task.token_hash), **NO_LEASE)
        except IllegalMove:
            continue  # it ended meanwhile
        record_attempt(session, campaign, now, EventType.LEASE_EXPIRED, task)
    return len(tasks)


def task_facts(task: TaskRow | TaskFacts) -> dict[str, object]:
    """The event data that identifies a task."""
    return {"task_id": task.id, "agent_id": task.agent_id, "kind": task.kind.value, "round": task.round}
