"""Tasks that begin and end by no word of their agent: each new one, and those that are cancelled."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.database.ids import new_id
from coordinator.database.tables import TaskRow
from shared.states import TaskKind, TaskState
from shared.wire.tasks.leases import Failure


def add(
    session: AsyncSession,
    now: datetime,
    campaign_id: str,
    agent_id: str,
    kind: TaskKind,
    round_number: int | None = None,
    benchmarks: list[str] | None = None,
) -> None:
    """Add a pending task.

    Args:
        session: the transaction, in which the campaign is locked.
        now: the time.
        campaign_id: the campaign.
        agent_id: whose task it is, for life.
        kind: of work.
        round_number: of a round's task, or the number of the adapter to evaluate.
        benchmarks: names of those that it runs, if the task is to run some.
    """
    session.add(
        TaskRow(
            id=new_id(now),
            campaign_id=campaign_id,
            agent_id=agent_id,
            kind=kind,
            state=TaskState.PENDING,
            round=round_number,
            benchmarks=benchmarks,
            created_at=now,
        )
    )


async def cancel(
    session: AsyncSession, now: datetime, tasks: Iterable[TaskRow], failure: Failure | None = None
) -> None:
    """Cancel the tasks that have not ended. failure: recorded in them if their agents were too slow."""
    values: dict[str, Any] = {"failure": failure.model_dump(mode="json")} if failure is not None else {}
    for task in tasks:
        if not task.state.is_final:
            await lifecycle.move(session, task, TaskState.CANCELLED, ended_at=now, **values)


async def cancel_of_agent(session: AsyncSession, now: datetime, campaign_id: str, agent_id: str) -> None:
    """Cancel the tasks of one agent in a campaign that have not ended."""
    live = select(TaskRow).where(
        TaskRow.campaign_id == campaign_id, TaskRow.agent_id == agent_id, TaskRow.state.in_(lifecycle.LIVE_TASK)
    )
    await cancel(session, now, (await session.scalars(live)).all())
