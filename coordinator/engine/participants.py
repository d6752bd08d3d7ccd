"""Queries for the participants of a campaign; who is asked for differs by function.

A participant is any agent that was invited. A client is a participant with a client number: it is drawn for rounds, and
keeps the number for life, also if its agent is revoked or fails to prepare again.

Those for each round, of whom there may be thousands, are read as ``Client``: a few columns, which cost a tenth of the
rows' objects.

Function                    Participants                                                     Order
``all_of``                  all                                                              agent name
``of_agents``               of these agents                                                  agent name
``active``                  of active agents that have the wanted labels                     agent name
``newcomers``               of active agents, prepared, without a client number              agent name
``available_clients``       of active agents, prepared, with a client number                 client number
``numbered_clients``        with a client number, in any state                               unspecified
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.objects import Objects
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AgentRow, ParticipantRow
from shared.states import AgentState, ParticipantState

_AT_ONCE = 512
"""Agents whose parts one statement asks for."""


@dataclass(frozen=True, slots=True)
class Client:
    """Columns of a client."""

    client_number: int
    agent_id: str
    agent_name: str
    n_train: int | None
    n_held_out: int | None
    evaluates: bool | None
    joined_round: int | None
    set_aside_until: int | None
    weight_share: float | None
    offers: dict[str, Any]


_CLIENT = tuple(getattr(ParticipantRow, each.name) for each in fields(Client))
_OF_CAMPAIGN = (ParticipantRow.campaign_id == given("campaign"), ParticipantRow.client_number.is_not(None))
_AVAILABLE = Prepared(
    select(*_CLIENT)
    .join(AgentRow, AgentRow.id == ParticipantRow.agent_id)
    .where(*_OF_CAMPAIGN, ParticipantRow.state == ParticipantState.PREPARED, AgentRow.state == AgentState.ACTIVE)
    .order_by(ParticipantRow.client_number)
)
_NUMBERED = Prepared(select(*_CLIENT).where(*_OF_CAMPAIGN))
_ALL = Objects(
    select(ParticipantRow).where(ParticipantRow.campaign_id == given("campaign")).order_by(ParticipantRow.agent_name)
)
_OF_ACTIVE_AGENTS = (
    select(ParticipantRow)
    .join(AgentRow, AgentRow.id == ParticipantRow.agent_id)
    .where(AgentRow.state == AgentState.ACTIVE)
)
_NEWCOMERS = Objects(
    _OF_ACTIVE_AGENTS.where(
        ParticipantRow.campaign_id == given("campaign"),
        ParticipantRow.state == ParticipantState.PREPARED,
        ParticipantRow.client_number.is_(None),
    ).order_by(AgentRow.name)
)


async def all_of(session: AsyncSession, campaign_id: str) -> list[ParticipantRow]:
    """All participants, by agent name."""
    return await _ALL.all(session, campaign=campaign_id)


async def of_agents(session: AsyncSession, campaign_id: str, agent_ids: Collection[str]) -> list[ParticipantRow]:
    """The participants that these agents are, by agent name."""
    rest = iter(sorted(agent_ids))
    rows: list[ParticipantRow] = []
    while batch := list(islice(rest, _AT_ONCE)):
        size = 1 << (len(batch) - 1).bit_length()  # one statement for each power of two: the last agent fills it up
        agents = {f"agent_{place}": batch[min(place, len(batch) - 1)] for place in range(size)}
        rows += await _of_so_many(size).all(session, campaign=campaign_id, **agents)
    return sorted(rows, key=lambda row: row.agent_name)


async def active(session: AsyncSession, campaign_id: str, labels: Mapping[str, str]) -> list[ParticipantRow]:
    """The participants whose agents are not revoked and have all these labels, by agent name."""
    of_active = _OF_ACTIVE_AGENTS.where(ParticipantRow.campaign_id == campaign_id)
    return list((await session.scalars(of_active.where(_has_labels(labels)).order_by(AgentRow.name))).all())


async def newcomers(session: AsyncSession, campaign_id: str) -> Sequence[ParticipantRow]:
    """The prepared participants that are not clients yet and whose agents are not revoked, by agent name."""
    return await _NEWCOMERS.all(session, campaign=campaign_id)


async def available_clients(session: AsyncSession, campaign_id: str) -> dict[int, Client]:
    """The clients that can be given tasks now, by client number: prepared, and their agents not revoked."""
    clients = (Client(*columns) for columns in await _AVAILABLE.rows(session, campaign=campaign_id))
    return {client.client_number: client for client in clients}


async def numbered_clients(session: AsyncSession, campaign_id: str) -> list[Client]:
    """All clients that the campaign ever had, in no particular order; their weights add up to that of the campaign."""
    return [Client(*columns) for columns in await _NUMBERED.rows(session, campaign=campaign_id)]


async def names_of(session: AsyncSession, campaign_id: str, client_numbers: Collection[int]) -> list[str]:
    """The names of clients, whether they can be given tasks now or not, in alphabetical order."""
    clients = await numbered_clients(session, campaign_id)
    return sorted(client.agent_name for client in clients if client.client_number in client_numbers)


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


@cache
def _of_so_many(n: int) -> Objects[ParticipantRow]:
    """The participants that *n* agents are, ``agent_0`` and so on."""
    agents = [given(f"agent_{place}") for place in range(n)]
    of_campaign = select(ParticipantRow).where(ParticipantRow.campaign_id == given("campaign"))
    return Objects(of_campaign.where(ParticipantRow.agent_id.in_(agents)))


def _has_labels(labels: Mapping[str, str]) -> ColumnElement[bool]:
    """SQL: the agent has all these labels, with these values."""
    return and_(true(), *(AgentRow.labels[label].as_string() == value for label, value in labels.items()))
