"""Leases: who may work on a task, until when, and as which attempt.

Safety never rests on clocks. ``attempt`` rises with each grant and fences: what an older attempt still sends matches no
row. A time that passes only lets the same agent acquire again.
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.tables import AgentRow, CampaignRow, TaskRow
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

_NOBODYS: dict[str, object] = {"token_hash": None, "instance_id": None, "lease_expires_at": None}
"""What a task without a lease has in place of one; its attempt stays, and fences."""


async def acquire(
    session: AsyncSession, now: datetime, ttl_s: float, agent_id: str, request: LeaseRequest, *, has_waited: bool
) -> TaskLease | None:
    """Grant the agent its next task, or the one that it holds once more; None where there is no work.

    The same instance asking again had its reply lost, or was restarted: it gets the same task as a new attempt. Not so
    a request that has waited: what its instance holds now was granted to a later one. Raises AgentAlreadyRunning while
    another instance's lease is alive, and AgentRevoked.
    """
    # the agent is locked before any campaign (as in revoking), so that two requests at once never get a task each;
    # without its key: new tasks refer to that, and the engine that makes them holds their campaign
    own_row = select(AgentRow).where(AgentRow.id == agent_id).with_for_update(key_share=True)
    row = await session.scalar(own_row)
    assert row is not None  # agents are revoked, never deleted
    if row.state is not AgentState.ACTIVE:
        raise AgentRevoked(row.name)
    task = await _next_task(session, agent_id)
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
    """Whether ``acquire`` would find something: most requests of waiting agents find nothing, and need no transaction.
    Of an agent that was revoked meanwhile ``acquire`` says so."""
    is_revoked = select(AgentRow.id).where(AgentRow.id == agent_id, AgentRow.state != AgentState.ACTIVE)
    return bool(await services.database.fetch(_tasks_of(agent_id).with_only_columns(TaskRow.id).union_all(is_revoked)))


async def _next_task(session: AsyncSession, agent_id: str) -> TaskRow | None:
    """The task that an agent holds, otherwise its oldest one of a campaign that is at work."""
    query = _tasks_of(agent_id).order_by((TaskRow.state == TaskState.LEASED).desc(), TaskRow.id).limit(1)
    found: TaskRow | None = await session.scalar(query)
    return found


def _tasks_of(agent_id: str) -> Select[TaskRow]:
    """The tasks that an agent holds, and those that it could be granted."""
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
        return None  # cancelled or granted in the meantime; whoever asks again sees what there is
    record(session, campaign, now, EventType.TASK_LEASED, **who(task), attempt=attempt)
    return TaskLease(
        task_id=task.id,
        attempt=attempt,
        token=token,
        expires_at=expires_at,
        renew_every_s=ttl_s / 3,
        job=await build_job(session, campaign, task),
    )


async def find_held(session: AsyncSession, claim: LeaseClaim) -> TaskRow:
    """The task that a claim speaks for, whatever its state. Raises LeaseLost."""
    return held(await session.get(TaskRow, claim.task_id), claim)


async def find_held_with_campaign(services: Services, claim: LeaseClaim) -> tuple[TaskRow, CampaignRow]:
    """The task that a claim speaks for, whatever its state, and its campaign. Raises LeaseLost."""
    both = select(TaskRow, CampaignRow).join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
    for task, campaign in await services.database.fetch(both.where(TaskRow.id == claim.task_id)):
        return held(task, claim), campaign
    raise LeaseLost(claim.task_id, claim.attempt)


def held(task: TaskRow | None, claim: LeaseClaim) -> TaskRow:
    """The task that a claim speaks for, whatever its state, if this is it. Raises LeaseLost."""
    if (
        task is None
        or task.agent_id != claim.agent_id
        or task.attempt != claim.attempt
        or task.token_hash != claim.token_hash
    ):
        raise LeaseLost(claim.task_id, claim.attempt)
    return task


def is_leased(claim: LeaseClaim) -> ColumnElement[bool]:
    """In SQL: the claim's task is leased, and its lease is the claim's."""
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
    """The campaign, locked, and the task that a claim speaks for, whatever its state. Raises LeaseLost.

    campaign_id: the task's, where it is known.
    """
    if campaign_id is None:
        campaign_id = (await find_held(session, claim)).campaign_id
    campaign = await lock_campaign(session, campaign_id)
    # it may have ended before we had the lock
    return campaign, held(await session.get(TaskRow, claim.task_id, populate_existing=True), claim)


async def end(session: AsyncSession, claim: LeaseClaim, task: TaskRow, to: TaskState, **values: object) -> None:
    """End the attempt: compare-and-set on id, attempt, token and state together. Raises LeaseLost."""
    try:
        await lifecycle.move(session, task, to, fence=(claim.attempt, claim.token_hash), **values)
    except IllegalMove as error:
        raise LeaseLost(claim.task_id, claim.attempt) from error


async def renew(
    session: AsyncSession, now: datetime, ttl_s: float, claim: LeaseClaim, request: RenewRequest
) -> RenewReply:
    """Prolong a lease and take its progress down. Raises LeaseLost; a task that was taken back answers with the
    directive."""
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
    """Give a task back unfinished, because the agent stops. Raises LeaseLost."""
    campaign, task = await lock_held(session, claim)
    await end(session, claim, task, TaskState.PENDING, **_NOBODYS)
    record(session, campaign, now, EventType.TASK_RELEASED, **who(task))


async def expire(session: AsyncSession, now: datetime) -> int:
    """Free the tasks whose lease has ended without being renewed; how many there were."""
    query = select(TaskRow).where(TaskRow.state == TaskState.LEASED, TaskRow.lease_expires_at < now)
    tasks = (await session.scalars(query.order_by(TaskRow.campaign_id, TaskRow.id))).all()
    for task in tasks:
        campaign = await lock_campaign(session, task.campaign_id)
        await session.refresh(task)  # it may have been renewed or ended before we had the lock
        if task.state is not TaskState.LEASED or task.lease_expires_at is None or task.lease_expires_at >= now:
            continue
        try:
            await lifecycle.move(session, task, TaskState.PENDING, fence=(task.attempt, task.token_hash), **_NOBODYS)
        except IllegalMove:
            continue  # it ended while we looked
        record(session, campaign, now, EventType.LEASE_EXPIRED, **who(task), attempt=task.attempt)
    return len(tasks)


def who(task: TaskRow) -> dict[str, object]:
    """What events say of a task."""
    return {"task_id": task.id, "agent_id": task.agent_id, "kind": task.kind.value, "round": task.round}
