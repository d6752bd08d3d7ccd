"""Reads events: those of one campaign by their numbers, those of all campaigns by their positions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import Select, select

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import CampaignRow, EventCountRow, EventRow
from coordinator.notifications.notifier import ALL_CAMPAIGNS
from coordinator.services import Services
from shared.bounds import MAX_COUNT
from shared.events import EventType
from shared.wire.events import EventView, FeedEventView

_COLUMNS = (EventRow.number, EventRow.at, EventRow.type, EventRow.data)
_END = Prepared(select(CampaignRow.last_event, CampaignRow.state).where(CampaignRow.id == given("campaign")))


@dataclass(frozen=True)
class Wanted:
    """Which events are wanted. types: any, if empty."""

    types: Sequence[EventType] = ()
    since: datetime | None = None
    until: datetime | None = None

    def apply(self, query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
        """Add the conditions to a query of EventRow."""
        if self.types:
            query = query.where(EventRow.type.in_(self.types))
        if self.since is not None:
            query = query.where(EventRow.at >= self.since)
        return query.where(EventRow.at < self.until) if self.until is not None else query


@lru_cache(maxsize=100)
def _next_of(types: frozenset[EventType]) -> Prepared:
    """The next events of a campaign, of some types or of any: what all ask who follow one, after each change of it."""
    query = select(*_COLUMNS).where(EventRow.campaign_id == given("campaign"), EventRow.number > given("after"))
    return Prepared(Wanted(sorted(types)).apply(query).order_by(EventRow.number).limit(given("limit")))


class Source(Protocol):
    """Events in an order without gaps. notifier_key: the key under which ``notifiers.events`` announces new ones."""

    @property
    def notifier_key(self) -> str: ...

    @property
    def wanted(self) -> Wanted: ...

    async def read(self, after: int, limit: int) -> list[tuple[int, EventView]]:
        """The wanted events after a place in the order, with their places."""
        ...

    async def end(self) -> tuple[int, bool]:
        """The place of the newest event, wanted or not, and whether no event can follow it."""
        ...


@dataclass(frozen=True)
class OfCampaign:
    """The events of one campaign."""

    services: Services
    campaign_id: str
    wanted: Wanted = field(default_factory=Wanted)

    @property
    def notifier_key(self) -> str:
        return self.campaign_id

    async def read(self, after: int, limit: int) -> list[tuple[int, EventView]]:
        rows: Sequence[Sequence[Any]]
        after, database = min(after, MAX_COUNT), self.services.database
        if self.wanted.since is None and self.wanted.until is None:
            query_of_types = _next_of(frozenset(self.wanted.types))
            rows = await database.ask(query_of_types, campaign=self.campaign_id, after=after, limit=limit)
        else:
            query = select(*_COLUMNS).where(EventRow.campaign_id == self.campaign_id, EventRow.number > after)
            rows = await database.fetch(self.wanted.apply(query).order_by(EventRow.number).limit(limit))
        return [(number, EventView(number=number, at=at, type=kind, data=data)) for number, at, kind, data in rows]

    async def end(self) -> tuple[int, bool]:
        [(last_event, state)] = await self.services.database.ask(_END, campaign=self.campaign_id)
        return last_event, state.is_final


@dataclass(frozen=True)
class OfAllCampaigns:
    """The events of all campaigns, or of one in the same order."""

    services: Services
    wanted: Wanted = field(default_factory=Wanted)
    campaign_id: str | None = None

    @property
    def notifier_key(self) -> str:
        return self.campaign_id or ALL_CAMPAIGNS

    async def read(self, after: int, limit: int) -> list[tuple[int, EventView]]:
        row = EventRow
        query = select(row.position, row.campaign_id, row.number, row.at, row.type, row.data, CampaignRow.name)
        query = query.join(CampaignRow, CampaignRow.id == row.campaign_id).where(row.position > after)
        if self.campaign_id is not None:
            query = query.where(row.campaign_id == self.campaign_id)
        rows = await self.services.database.fetch(self.wanted.apply(query).order_by(row.position).limit(limit))
        return [
            (each.position, FeedEventView(**{**each._mapping, "campaign_name": each.name}))  # extra keys are ignored
            for each in rows
        ]

    async def end(self) -> tuple[int, bool]:
        for (n_events,) in await self.services.database.fetch(select(EventCountRow.n_events)):
            return n_events, False
        return 0, False
