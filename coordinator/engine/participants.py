"""Queries for the participants of a campaign; who is asked for differs by function.

A participant is any agent that was invited. A client is a participant with a client number: it is drawn for rounds, and
keeps the number for life, also if its agent is revoked or fails to prepare again.

Function                    Participants                                                     Order
``all_of``                  all                                                              agent name
``active``                  of active agents that have the wanted labels                     agent name
``newcomers``               of active agents, prepared, without a client number              agent name
``available_clients``       of active agents, prepared, with a client number                 client number
``numbered_clients``        with a client number, in any state                               unspecified
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, Select, and_, exists, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import AgentRow, ParticipantRow
from shared.states import AgentState, ParticipantState


async def all_of(session: AsyncSession, campaign_id: str) -> list[ParticipantRow]:
    """All participants, by agent name."""
    query = select(ParticipantRow).where(ParticipantRow.campaign_id == campaign_id)
    return list((await session.scalars(query.order_by(ParticipantRow.agent_name))).all())


async def active(session: AsyncSession, campaign_id: str, labels: Mapping[str, str]) -> list[ParticipantRow]:
    """The participants whose agents are not revoked and have all these labels, by agent name."""
    query = _of_active_agents(campaign_id).where(_has_labels(labels)).order_by(AgentRow.name)
    return list((await session.scalars(query)).all())


async def newcomers(session: AsyncSession, campaign_id: str) -> Sequence[ParticipantRow]:
    """The prepared participants that are not clients yet and whose agents are not revoked, by agent name."""
    query = _prepared(campaign_id).where(ParticipantRow.client_number.is_(None)).order_by(AgentRow.name)
    return (await session.scalars(query)).all()


async def available_clients(session: AsyncSession, campaign_id: str) -> dict[int, ParticipantRow]:
    """The clients that can be given tasks now, by client number: prepared, and their agents not revoked."""
    query = _prepared(campaign_id).where(ParticipantRow.client_number.is_not(None))
    rows = (await session.scalars(query.order_by(ParticipantRow.client_number))).all()
    return {row.client_number: row for row in rows if row.client_number is not None}


async def numbered_clients(session: AsyncSession, campaign_id: str) -> Sequence[ParticipantRow]:
    """All clients that the campaign ever had, in no particular order; their weights add up to that of the campaign."""
    query = select(ParticipantRow).where(
        ParticipantRow.campaign_id == campaign_id, ParticipantRow.client_number.is_not(None)
    )
    return (await session.scalars(query)).all()


async def names_of(session: AsyncSession, campaign_id: str, client_numbers: Collection[int]) -> list[str]:
    """The names of clients, whether they can be given tasks now or not, in alphabetical order."""
    return [each.agent_name for each in await all_of(session, campaign_id) if each.client_number in client_numbers]


async def highest_client_number(session: AsyncSession, campaign_id: str) -> int | None:
    """The highest client number given so far. None if there are no clients."""
    highest = select(func.max(ParticipantRow.client_number)).where(ParticipantRow.campaign_id == campaign_id)
    number: int | None = await session.scalar(highest)
    return number


async def agents_to_invite(session: AsyncSession, campaign_id: str, labels: Mapping[str, str]) -> Sequence[AgentRow]:
    """The active agents that have all these labels and are not participants, by name."""
    takes_part = exists().where(ParticipantRow.campaign_id == campaign_id, ParticipantRow.agent_id == AgentRow.id)
    query = select(AgentRow).where(AgentRow.state == AgentState.ACTIVE, ~takes_part, _has_labels(labels))
    return (await session.scalars(query.order_by(AgentRow.name))).all()


async def campaigns_of(session: AsyncSession, agent_id: str) -> Sequence[str]:
    """The ids of the campaigns that an agent is a participant of, ascending."""
    query = (
        select(ParticipantRow.campaign_id)
        .where(ParticipantRow.agent_id == agent_id)
        .order_by(ParticipantRow.campaign_id)
    )
    return (await session.scalars(query)).all()


def _of_active_agents(campaign_id: str) -> Select[ParticipantRow]:
    """A query for the participants whose agents are not revoked."""
    return (
        select(ParticipantRow)
        .join(AgentRow, AgentRow.id == ParticipantRow.agent_id)
        .where(ParticipantRow.campaign_id == campaign_id, AgentRow.state == AgentState.ACTIVE)
    )


def _prepared(campaign_id: str) -> Select[ParticipantRow]:
    """A query for those of them that are prepared."""
    return _of_active_agents(campaign_id).where(ParticipantRow.state == ParticipantState.PREPARED)


def _has_labels(labels: Mapping[str, str]) -> ColumnElement[bool]:
    """SQL: the agent has all these labels, with these values."""
    return and_(true(), *(AgentRow.labels[label].as_string() == value for label, value in labels.items()))
