"""The task of a claim: whether the claim still holds it, and the locks of both task and campaign."""

from typing import Any, TypeVar

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.tables import CampaignRow, TaskRow
from coordinator.errors import LeaseLost
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.tasks.claims import LeaseClaim
from coordinator.tasks.facts import (
    TASK,
    CampaignFacts,
    CampaignOfFiles,
    ParticipantFacts,
    TaskFacts,
    find_with_campaign,
    lock_campaign_facts,
)
from shared.states import TaskState

HeldTask = TypeVar("HeldTask", TaskRow, TaskFacts)

FENCE = (
    TaskRow.id == given("task"),
    TaskRow.agent_id == given("agent"),
    TaskRow.attempt == given("attempt"),
    TaskRow.token_hash == given("token_hash"),
)
"""In a prepared statement: the task of a claim, under this claim, in any state."""
IS_LEASED = and_(*FENCE, TaskRow.state == TaskState.LEASED)
"""In a prepared statement: the task of a claim is leased under this claim, of which ``fence_of`` has the values."""

_HELD = Prepared(select(*TASK).where(*FENCE))


def fence_of(claim: LeaseClaim) -> dict[str, Any]:
    """The values of ``IS_LEASED``."""
    return {
        "task": claim.task_id,
        "agent": claim.agent_id,
        "attempt": claim.attempt,
        "token_hash": claim.token_hash,
    }


async def find_held(session: AsyncSession, claim: LeaseClaim) -> TaskRow:
    """The task of a claim, in any state. Raises LeaseLost."""
    return check_held(await session.get(TaskRow, claim.task_id), claim)


async def find_held_with_campaign(
    services: Services, claim: LeaseClaim
) -> tuple[TaskFacts, CampaignOfFiles, ParticipantFacts]:
    """The task of a claim, in any state, its campaign, and its agent's part in it. Raises LeaseLost."""
    found = await find_with_campaign(services.database, claim.task_id)
    if found is None:
        raise LeaseLost(claim.task_id, claim.attempt)
    check_held(found[0], claim)
    return found


def check_held(task: HeldTask | None, claim: LeaseClaim) -> HeldTask:
    """Return *task*, in any state, if the claim matches it. Raises LeaseLost otherwise."""
    if (
        task is None
        or task.agent_id != claim.agent_id
        or task.attempt != claim.attempt
        or task.token_hash != claim.token_hash
    ):
        raise LeaseLost(claim.task_id, claim.attempt)
    return task


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


async def lock_held_facts(
    transaction: Transaction, claim: LeaseClaim, campaign_id: str
) -> tuple[CampaignFacts, TaskFacts]:
    """As ``lock_held``, with what a lease needs of both."""
    campaign = await lock_campaign_facts(transaction, campaign_id)
    columns = await _HELD.first(transaction, **fence_of(claim))
    if columns is None:
        raise LeaseLost(claim.task_id, claim.attempt)
    return campaign, TaskFacts(*columns)
