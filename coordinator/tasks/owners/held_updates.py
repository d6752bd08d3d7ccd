"""Updates that are finished at their agents, and that their owners keep back until they let them go.

A held task has no lease, is granted to nobody and never expires. ``attempt`` and the hash of its token stay, so that
the agent may repeat its request; only the release makes it a task to be granted again.
"""

from typing import Any

from coordinator import lifecycle
from coordinator.database.tables import CampaignRow, TaskRow, UploadRow
from coordinator.errors import Invalid, NotFound, RoundOver
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.tasks.claims import LeaseClaim
from coordinator.tasks.held import lock_held
from coordinator.tasks.leases import NO_LEASE, end, record_attempt
from coordinator.tasks.transfer import uploads
from shared.events import EventType
from shared.states import TaskKind, TaskState

_NOBODYS: dict[str, Any] = {name: None for name in NO_LEASE if name != "token_hash"}
"""Columns that end a lease, but for the hash of its token."""


async def hold(services: Services, claim: LeaseClaim) -> None:
    """Keep back the finished update of a leased task, and delete what was uploaded of it. Repeating it changes nothing.

    Raises LeaseLost, and Invalid for a task without an update.
    """
    async with services.database.write("hold") as session:
        campaign, task = await lock_held(session, claim)
        if task.kind is not TaskKind.TRAIN:
            raise Invalid(("task", f"a task of kind {task.kind} has no update that can be held"))
        if task.state is TaskState.HELD:
            return
        deleted = await uploads.delete_rows(session, UploadRow.task_id == task.id)
        now = services.clock.now()
        await end(session, claim, task, TaskState.HELD, **_NOBODYS, held_at=now)
        campaign.due_at = now
        record_attempt(session, campaign, now, EventType.UPDATE_HELD, task)
        services.notifiers.after_commit(session, campaign_id=campaign.id)
    await uploads.delete_bytes(services, deleted)


async def let_go(services: Services, agent_id: str, task_id: str) -> TaskState:
    """Let an agent have its held task again, to send the update. Repeating it changes nothing. Returns its state.

    Raises NotFound for a task that is not this agent's, and RoundOver.
    """
    async with services.database.write("let go") as session:
        task = await session.get(TaskRow, task_id)
        if task is None or task.agent_id != agent_id:
            raise NotFound("task", task_id)
        campaign: CampaignRow = await lock_campaign(session, task.campaign_id)
        await session.refresh(task)  # its round may have ended before the lock was ours
        if task.state in (TaskState.FAILED, TaskState.CANCELLED, TaskState.SUPERSEDED):
            raise RoundOver(task.round)
        if task.state is not TaskState.HELD:
            return task.state
        now = services.clock.now()
        await lifecycle.move(session, task, TaskState.PENDING, **NO_LEASE)
        campaign.due_at = now
        record_attempt(session, campaign, now, EventType.UPDATE_RELEASED, task)
        services.notifiers.after_commit(session, campaign_id=campaign.id, agent_ids=[agent_id])
    return TaskState.PENDING
