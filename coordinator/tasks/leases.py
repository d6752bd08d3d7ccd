"""Leases: who may work on a task, until when, and as which attempt.

Safety does not depend on clocks. ``attempt`` rises with each grant and is the fencing token: requests of older attempts
match no row. The expiry of a lease only lets the same agent acquire the task again.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.tables import AgentRow, CampaignRow, ParticipantRow, TaskRow
from coordinator.errors import AgentAlreadyRunning, AgentRevoked, IllegalMove, LeaseLost
from coordinator.events.log import record
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.tasks.claims import LeaseClaim
from coordinator.tasks.jobs import build_job
from shared.credentials import hash_secret, new_secret
from shared.events import EventType
from shared.states import AgentState, TaskState
from shared.wire.leases import Directive, LeaseRequest, RenewReply, RenewRequest, TaskLease

log = logging.getLogger(__name__)

_NO_LEASE: dict[str, object] = {"token_hash": None, "instance_id": None, "lease_expires_at": None}
"""Columns that clear a lease. ``attempt`` is kept: it is the fencing token."""


async def acquire(
    session: AsyncSession, now: datetime, ttl_s: float, agent_id: str, request: LeaseRequest, *, has_waited: bool
) -> TaskLease | None:
    """Grant the agent its next task, or grant the task that it holds again. Returns None if there is no work.

    An instance that asks while it holds a task has lost the reply or was restarted, so it gets the same task as a new
    attempt. A request that has waited gets nothing then: the task was granted to a later request of the instance.

    Raises AgentAlreadyRunning while another instance holds a live lease, and AgentRevoked.
    """
    # lock the agent before any campaign, as revoking does, so that concurrent requests never get a task each; not its
    # key (key_share): new tasks reference the key, and the engine that adds them holds their campaign's lock
    own_row = select(AgentRow).where(AgentRow.id == agent_id).with_for_update(key_share=True)
    row = await session.scalar(own_row)
    assert row is not None  # agents are revoked, never deleted
    if row.state is not AgentState.ACTIVE:
        raise AgentRevoked(row.name)
    task = await _next_task(session, now, agent_id)
    if task is None:
        return None
    if task.state is TaskState.LEASED and (expires_at := task.lease_expires_at or now) > now:
        if task.instance_id != request.instance_id:
            raise AgentAlreadyRunning(row.name, expires_at)
        if has_waited:
            return None
    row.version = request.version
    return await _grant(session, now, ttl_s, task, request)


async def has_work(services: Services, agent_id: str) -> bool:
    """Whether ``acquire`` is worth a transaction: most requests of waiting agents find no work.

    True for a revoked agent too, so that ``acquire`` raises AgentRevoked.
    """
    is_revoked = select(AgentRow.id).where(AgentRow.id == agent_id, AgentRow.state != AgentState.ACTIVE)
    return bool(await services.database.fetch(_tasks_of(agent_id).with_only_columns(TaskRow.id).union_all(is_revoked)))


async def _next_task(session: AsyncSession, now: datetime, agent_id: str) -> TaskRow | None:
    """The task that an agent holds, otherwise its oldest task in an active campaign.

    Campaigns whose plug-ins are missing here are passed over; the engine pauses them.
    """
    query = _tasks_of(agent_id).order_by((TaskRow.state == TaskState.LEASED).desc(), TaskRow.id).limit(1)
    unusable: list[str] = []
    while (row := (await session.execute(_with_campaign(query, unusable))).first()) is not None:
        task, campaign = row
        missing = campaign.spec.missing_plugin()
        if missing is None or (task.state is TaskState.LEASED and (task.lease_expires_at or now) > now):
            return task
        log.warning("no task of campaign %s for agent %s: %s", campaign.id, agent_id, missing)
        unusable.append(campaign.id)
    return None


def _with_campaign(tasks: Select[TaskRow], passed_over: Sequence[str]) -> Select[TaskRow, CampaignRow]:
    """A query of tasks, with their campaigns, without those of some campaigns."""
    rest = tasks.where(CampaignRow.id.not_in(passed_over)) if passed_over else tasks
    return rest.add_columns(CampaignRow)


def _tasks_of(agent_id: str) -> Select[TaskRow]:
    """The tasks that an agent holds or can be granted."""
    return (
        select(TaskRow)
        .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
        .where(
            TaskRow.agent_id == agent_id,
            TaskRow.state.in_(lifecycle.LIVE_TASK),
            (TaskRow.state == TaskState.LEASED) | CampaignRow.state.in_(lifecycle.ACTIVE_CAMPAIGN),
        )
    )


async def _grant(
    session: AsyncSession, now: datetime, ttl_s: float, task: TaskRow, request: LeaseRequest
) -> TaskLease | None:
    campaign = await lock_campaign(session, task.campaign_id)
    token = new_secret()
    expires_at = now + timedelta(seconds=ttl_s)
    attempt = task.attempt + 1
    try:
        await lifecycle.move(
            session,
            task,
            TaskState.LEASED,
            fence=(task.attempt, task.token_hash),
            attempt=attempt,
            token_hash=hash_secret(token),
            instance_id=request.instance_id,
            lease_expires_at=expires_at,
        )
    except IllegalMove:
        return None  # cancelled or granted meanwhile; the agent asks again
    record(session, campaign, now, EventType.TASK_LEASED, **task_facts(task), attempt=attempt)
    return TaskLease(
        task_id=task.id,
        attempt=attempt,
        token=token,
        expires_at=expires_at,
        renew_every_s=ttl_s / 3,
        job=await build_job(session, campaign, task),
    )


async def find_held(session: AsyncSession, claim: LeaseClaim) -> TaskRow:
    """The task of a claim, in any state. Raises LeaseLost."""
    return check_held(await session.get(TaskRow, claim.task_id), claim)


async def find_held_with_campaign(services: Services, claim: LeaseClaim) -> tuple[TaskRow, CampaignRow, ParticipantRow]:
    """The task of a claim, in any state, its campaign, and its agent's part in it. Raises LeaseLost."""
    query = with_campaign_and_participant().where(TaskRow.id == claim.task_id)
    for task, campaign, participant in await services.database.fetch(query):
        return check_held(task, claim), campaign, participant
    raise LeaseLost(claim.task_id, claim.attempt)


def with_campaign_and_participant() -> Select[TaskRow, CampaignRow, ParticipantRow]:
    """Query tasks, each with its campaign and its agent's part in it."""
    is_agents_part = (ParticipantRow.campaign_id == TaskRow.campaign_id) & (ParticipantRow.agent_id == TaskRow.agent_id)
    return (
        select(TaskRow, CampaignRow, ParticipantRow)
        .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
        .join(ParticipantRow, is_agents_part)
    )


def check_held(task: TaskRow | None, claim: LeaseClaim) -> TaskRow:
    """Return *task*, in any state, if the claim matches it. Raises LeaseLost otherwise."""
    if (
        task is None
        or task.agent_id != claim.agent_id
        or task.attempt != claim.attempt
        or task.token_hash != claim.token_hash
    ):
        raise LeaseLost(claim.task_id, claim.attempt)
    return task


def is_leased(claim: LeaseClaim) -> ColumnElement[bool]:
    """SQL: the claim's task is leased under this claim."""
    return and_(
        TaskRow.id == claim.task_id,
        TaskRow.agent_id == claim.agent_id,
        TaskRow.attempt == claim.attempt,
        TaskRow.token_hash == claim.token_hash,
        TaskRow.state == TaskState.LEASED,
    )


async def lock_held(
    session: AsyncSession, claim: LeaseClaim, campaign_id: str | None = None
) -> tuple[CampaignRow, TaskRow]:
    """Lock the campaign of a claim's task. Returns the campaign and the task, in any state. Raises LeaseLost.

    campaign_id: the task's campaign if known, which saves a query.
    """
    if campaign_id is None:
        campaign_id = (await find_held(session, claim)).campaign_id
    campaign = await lock_campaign(session, campaign_id)
    # read again: it may have ended before the lock was ours
    return campaign, check_held(await session.get(TaskRow, claim.task_id, populate_existing=True), claim)


async def end(session: AsyncSession, claim: LeaseClaim, task: TaskRow, to: TaskState, **values: object) -> None:
    """End the attempt, with compare-and-set on id, attempt, token and state together. Raises LeaseLost."""
    try:
        await lifecycle.move(session, task, to, fence=(claim.attempt, claim.token_hash), **values)
    except IllegalMove as error:
        raise LeaseLost(claim.task_id, claim.attempt) from error


async def renew(
    session: AsyncSession, now: datetime, ttl_s: float, claim: LeaseClaim, request: RenewRequest
) -> RenewReply:
    """Renew a lease and record its progress. Raises LeaseLost.

    If the task was cancelled or superseded, the reply's directive is CANCEL.
    """
    expires_at = now + timedelta(seconds=ttl_s)
    values: dict[str, object] = {"lease_expires_at": expires_at}
    if request.progress is not None:
        values["progress"] = request.progress.model_dump(mode="json")
    renewed = await session.execute(update(TaskRow).where(is_leased(claim)).values(values).returning(TaskRow.id))
    if renewed.first() is not None:
        return RenewReply(expires_at=expires_at, directive=Directive.CONTINUE)
    task = await find_held(session, claim)
    if task.state in (TaskState.CANCELLED, TaskState.SUPERSEDED):
        return RenewReply(expires_at=now, directive=Directive.CANCEL)
    raise LeaseLost(claim.task_id, claim.attempt)


async def release(session: AsyncSession, now: datetime, claim: LeaseClaim) -> None:
    """Return an unfinished task because its agent stops. Raises LeaseLost."""
    campaign, task = await lock_held(session, claim)
    await end(session, claim, task, TaskState.PENDING, **_NO_LEASE)
    record(session, campaign, now, EventType.TASK_RELEASED, **task_facts(task))


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
            await lifecycle.move(session, task, TaskState.PENDING, fence=(task.attempt, task.token_hash), **_NO_LEASE)
        except IllegalMove:
            continue  # it ended meanwhile
        record(session, campaign, now, EventType.LEASE_EXPIRED, **task_facts(task), attempt=task.attempt)
    return len(tasks)


def task_facts(task: TaskRow) -> dict[str, object]:
    """The event data that identifies a task."""
    return {"task_id": task.id, "agent_id": task.agent_id, "kind": task.kind.value, "round": task.round}
