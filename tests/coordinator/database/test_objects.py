"""Objects that prepared statements read are the session's own, on both databases."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.objects import ByKey, Objects
from coordinator.database.prepared import given
from coordinator.database.tables import AgentRow
from shared.states import AgentState
from tests.coordinator.database.conftest import Work

AT = datetime(2026, 1, 2, tzinfo=UTC)
IN_ORDER = select(AgentRow).where(AgentRow.state == given("state")).order_by(AgentRow.name)
ACTIVE, FRESH, BY_ID = Objects(IN_ORDER), Objects(IN_ORDER, fresh=True), ByKey(AgentRow)


@pytest.fixture(autouse=True)
def two_agents(run: Callable[[Work], Any]) -> None:
    """The agents a and b."""

    async def add(session: AsyncSession) -> None:
        for name in ("b", "a"):
            of_agent = {"labels": {"site": name}, "secret_hash": name, "version": "1", "created_at": AT}
            session.add(AgentRow(id=name, name=name, state=AgentState.ACTIVE, **of_agent))

    run(add)


def test_they_are_as_the_sessions_own(run: Callable[[Work], Any]) -> None:
    async def work(session: AsyncSession) -> None:
        a, b = await ACTIVE.all(session, state=AgentState.ACTIVE)
        assert (a.name, a.labels, a.state, a.created_at, a.last_seen_at) == (
            *("a", {"site": "a"}, AgentState.ACTIVE, AT),
            None,
        )
        assert inspect(a).persistent
        assert not session.dirty
        assert await session.get(AgentRow, "b") is b
        assert await BY_ID.get_one(session, "a") is a
        assert await ACTIVE.first(session, state=AgentState.ACTIVE) is a
        assert await BY_ID.get(session, "c") is None
        assert await ACTIVE.first(session, state=AgentState.REVOKED) is None

    run(work)


def test_changes_of_them_are_stored_and_seen(run: Callable[[Work], Any]) -> None:
    async def change(session: AsyncSession) -> None:
        a = await BY_ID.get_one(session, "a")
        a.version, a.state = "2", AgentState.REVOKED
        assert [each.name for each in await ACTIVE.all(session, state=AgentState.ACTIVE)] == ["b"]
        added = await session.get_one(AgentRow, "b")
        await session.delete(added)
        assert await ACTIVE.all(session, state=AgentState.ACTIVE) == []

    async def left(session: AsyncSession) -> Any:
        return (await session.execute(select(AgentRow.name, AgentRow.version))).all()

    run(change)
    assert run(left) == [("a", "2")]


def test_a_known_one_stays_as_it_is_unless_it_is_to_be_fresh(run: Callable[[Work], Any]) -> None:
    async def work(session: AsyncSession) -> None:
        a = await BY_ID.get_one(session, "a")
        session.expunge(a)
        a.version = "old"
        session.add(a)
        await session.flush()
        a.__dict__["version"] = "what the session has"
        assert (await ACTIVE.first(session, state=AgentState.ACTIVE)) is a
        assert a.version == "what the session has"
        assert (await FRESH.first(session, state=AgentState.ACTIVE)) is a
        assert a.version == "old"
        assert not session.dirty

    run(work)
