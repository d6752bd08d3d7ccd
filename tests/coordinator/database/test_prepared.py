"""Prepared statements convert, refuse and see what SQLAlchemy's own statements do, on both databases."""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import insert, null, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import coordinator
from coordinator.database.objects import Objects
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AgentRow
from coordinator.errors import Unstorable
from shared.states import AgentState
from tests.coordinator.database.conftest import Work
from tests.support.server import RunningCoordinator

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))
COLUMNS = (AgentRow.id, AgentRow.labels, AgentRow.state, AgentRow.created_at, AgentRow.last_seen_at)
ADD = Prepared(
    insert(AgentRow).values(
        id=given("id"),
        name=given("id"),
        labels=given("labels"),
        state=AgentState.ACTIVE,
        secret_hash=given("id"),
        version="1",
        created_at=given("at"),
    )
)
FIND = Prepared(
    select(*COLUMNS).where(AgentRow.state.in_(list(AgentState)), AgentRow.id == given("id")).order_by(AgentRow.id)
)
RENAME = Prepared(
    update(AgentRow).where(AgentRow.id == given("id")).values(name=given("name")).returning(AgentRow.name)
)


def test_values_come_back_as_they_went(run: Callable[[Work], Any], either_coordinator: RunningCoordinator) -> None:
    async def work(session: AsyncSession) -> None:
        assert not await ADD.rows(session, id="a", labels={"site": ["x"]}, at=AT)
        await ADD.run_each(session, [{"id": each, "labels": {}, "at": AT} for each in ("b", "c")])

    run(work)
    ask = either_coordinator.services.database.ask
    [row] = either_coordinator.run(ask(FIND, id="a"))
    assert row == ("a", {"site": ["x"]}, AgentState.ACTIVE, AT, None)
    assert row[3].tzinfo is UTC
    assert [either_coordinator.run(ask(FIND, id=each))[0][0] for each in ("b", "c")] == ["b", "c"]
    assert either_coordinator.run(ask(FIND, id="nobody")) == []


def test_it_sees_changed_objects_and_is_rolled_back_with_them(run: Callable[[Work], Any]) -> None:
    async def work(session: AsyncSession) -> Any:
        session.add(
            AgentRow(id="a", name="a", labels={}, state=AgentState.ACTIVE, secret_hash="a", version="1", created_at=AT)
        )
        row = await FIND.first(session, id="a")
        assert row is not None
        assert row[0] == "a"
        assert await RENAME.first(session, id="a", name="ada") == ("ada",)
        assert await RENAME.first(session, id="nobody", name="ada") is None
        raise ZeroDivisionError

    async def left(session: AsyncSession) -> Any:
        return await FIND.first(session, id="a")

    with pytest.raises(ZeroDivisionError):
        run(work)
    assert run(left) is None


@pytest.mark.parametrize("value", ["n" * 64, "a\0b", "\ud800"], ids=["long", "NUL", "half"])
def test_what_a_column_refuses_is_refused(run: Callable[[Work], Any], value: str) -> None:
    async def work(session: AsyncSession) -> Any:
        await RENAME.rows(session, id="a", name=value)

    with pytest.raises(Unstorable, match="a text"):
        run(work)


@pytest.mark.parametrize("values", [{}, {"id": "a", "name": "b"}, {"Id": "a"}])
def test_a_value_that_is_missing_or_not_asked_for_is_an_error(run: Callable[[Work], Any], values: Any) -> None:
    async def work(session: AsyncSession) -> Any:
        return await FIND.rows(session, **values)

    with pytest.raises(AssertionError, match="asked for"):
        run(work)


def test_a_value_may_be_none(run: Callable[[Work], Any]) -> None:
    same = Prepared(select(AgentRow.id).where(AgentRow.last_seen_at.is_not_distinct_from(given("at"))))
    nothing = Prepared(select(null(), AgentRow.name).where(AgentRow.id == given("id")))

    async def work(session: AsyncSession) -> Any:
        await ADD.rows(session, id="a", labels={}, at=AT)
        return await same.rows(session, at=None), await nothing.rows(session, id="a")

    assert run(work) == ([("a",)], [(None, "a")])


def test_a_constraint_is_an_integrity_error_that_quotes_no_value(run: Callable[[Work], Any]) -> None:
    async def work(session: AsyncSession) -> Any:
        for _ in range(2):
            await ADD.rows(session, id="sesame", labels={}, at=AT)

    with pytest.raises(IntegrityError) as caught:
        run(work)
    assert "sesame" not in str(caught.value)


def test_every_statement_is_one_of_both_databases() -> None:
    for module in pkgutil.walk_packages(coordinator.__path__, "coordinator."):
        importlib.import_module(module.name)
    statements = [
        (f"{name}.{of}", value.prepared if isinstance(value, Objects) else value)
        for name, module in list(sys.modules.items())
        if name.startswith("coordinator.")
        for of, value in vars(module).items()
        if isinstance(value, Prepared | Objects)
    ]
    assert len(statements) > 25
    for url in ("sqlite+aiosqlite://", "postgresql+asyncpg://nobody@nowhere/none"):
        dialect = create_async_engine(url).dialect
        for name, statement in statements:
            assert statement.text_for(dialect).sql, name
