"""What one database refuses, the other refuses too: before a driver sees it, and without quoting it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, func, insert, select, update

from coordinator.database.columns import ShortText
from coordinator.database.sessions import Database
from coordinator.database.tables import (
    AgentRow,
    BlobRow,
    CampaignRow,
    EnrollmentTokenRow,
    EventRow,
    MetricRow,
    OperatorKeyRow,
    TaskRow,
)
from coordinator.errors import Unstorable
from coordinator.settings import Settings
from shared.states import AgentState

NOW = datetime(2026, 1, 2, tzinfo=UTC)
AGENT = {
    "id": "a1",
    "name": "ada",
    "labels": {},
    "state": AgentState.ACTIVE,
    "secret_hash": "0" * 64,
    "version": "1",
    "created_at": NOW,
}
METRIC = {"id": "m1", "campaign_id": "c1", "round": 1, "name": "loss", "value": 1.0}

REFUSED: dict[str, Any] = {
    "NUL in a text": insert(AgentRow).values({**AGENT, "name": "x\x00Sesame"}),
    "a lone surrogate": insert(AgentRow).values({**AGENT, "version": "\ud800Sesame"}),
    "a text beyond its column": insert(AgentRow).values({**AGENT, "name": "Sesame" * 11}),
    "NUL in JSON": insert(AgentRow).values({**AGENT, "labels": {"site": ["Sesame\x00"]}}),
    "NUL in a key of JSON": insert(AgentRow).values({**AGENT, "labels": {"Sesame\x00": "a"}}),
    "a lone surrogate in JSON": insert(AgentRow).values({**AGENT, "labels": {"site": "Sesame\udfff"}}),
    "a huge number in JSON": insert(AgentRow).values({**AGENT, "labels": {"site": 10**400}}),
    "a number of JSON that is none": insert(AgentRow).values({**AGENT, "labels": {"site": float("nan")}}),
    "a number beyond 32 bits": insert(MetricRow).values({**METRIC, "round": 1 << 31}),
    "a number beyond 64 bits": insert(BlobRow).values(sha256="0" * 64, n_bytes=1 << 63),
    "a number below 64 bits": insert(BlobRow).values(sha256="0" * 64, n_bytes=-(1 << 63) - 1),
    "a fraction": insert(BlobRow).values(sha256="0" * 64, n_bytes=1.5),
    "digits in a text": insert(BlobRow).values(sha256="0" * 64, n_bytes="7"),
    "no finite number": insert(MetricRow).values({**METRIC, "value": float("inf")}),
    "a time after 9999": insert(OperatorKeyRow).values(
        id="k1", key_hash="0" * 64, created_at=datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    ),
    "a changed row": update(AgentRow).values(name="Sesame\x00"),
    "NUL that is looked for": select(AgentRow.id).where(AgentRow.name == "Sesame\x00"),
    "a number that is looked for": select(TaskRow.id).where(TaskRow.round == 1 << 40),
}


def in_database(data_dir: Path, database_url: str | None, work: Callable[[Database], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        database = Database(Settings(data_dir=data_dir, database_url=database_url).database)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def test_each_value_is_refused_in_the_same_words_and_nothing_is_written(
    data_dir: Path, database_url: str | None
) -> None:
    said: dict[str, str] = {}

    async def work(database: Database) -> Row[Any]:
        for what, statement in REFUSED.items():
            with pytest.raises(Unstorable) as refused:
                async with database.write("test") as session:
                    await session.execute(statement)
            said[what] = str(refused.value)
        async with database.read() as session:
            counts = [select(func.count()).select_from(row).scalar_subquery() for row in (AgentRow, BlobRow, MetricRow)]
            return (await session.execute(select(*counts))).one()

    assert tuple(in_database(data_dir, database_url, work)) == (0, 0, 0)
    assert "Sesame" not in "".join(said.values())
    assert said["NUL in a text"] == "a text contains a NUL character"
    assert said["a text beyond its column"] == "a text has 66 characters, at most 63 are stored"
    assert said["a number beyond 32 bits"] == "a number is not between -2147483648 and 2147483647"


def test_the_largest_values_are_stored_and_read_as_they_were(data_dir: Path, database_url: str | None) -> None:
    labels = {"site": "é漢🙂\n\t", "n": (1 << 63) - 1, "list": [None, True, -1.5]}

    async def work(database: Database) -> tuple[Any, ...]:
        async with database.write("test") as session:
            await session.execute(insert(AgentRow).values({**AGENT, "name": "é" * 63, "labels": labels}))
            await session.execute(insert(BlobRow).values(sha256="0" * 64, n_bytes=(1 << 63) - 1))
        async with database.read() as session:
            agent = (await session.scalars(select(AgentRow))).one()
            return agent.name, agent.labels, agent.created_at, await session.scalar(select(BlobRow.n_bytes))

    assert in_database(data_dir, database_url, work) == ("é" * 63, labels, NOW, (1 << 63) - 1)


def test_a_text_longer_than_any_stored_one_is_looked_for_in_vain(data_dir: Path, database_url: str | None) -> None:
    async def work(database: Database) -> Any:
        return await database.fetch(select(AgentRow.id).where(AgentRow.name == "x" * 5000))

    assert in_database(data_dir, database_url, work) == []


def test_a_reason_that_quotes_another_party_is_stored_as_one_clean_line(
    data_dir: Path, database_url: str | None
) -> None:
    async def work(database: Database) -> Any:
        async with database.write("test") as session:
            session.add(
                CampaignRow(
                    id="c1", name="c", spec_json={}, state="paused", created_at=NOW, resumed_at=NOW, due_at=None
                )
            )
            await session.flush()
            row = await session.get_one(CampaignRow, "c1")
            row.reason = "bob: x\x00y\x1b[2J\nFAKE LINE \ud800"
        return await database.fetch(select(CampaignRow.reason))

    [(reason,)] = in_database(data_dir, database_url, work)
    assert reason == r"bob: x\x00y\x1b[2J FAKE LINE \ud800"


def test_every_text_and_number_of_the_tables_is_checked() -> None:
    unchecked = [
        f"{table.name}.{column.name}"
        for table in (row.__table__ for row in (EventRow, *_rows()))
        for column in table.columns
        if type(column.type).__module__.startswith("sqlalchemy.")
        and column.type.__visit_name__ not in ("enum", "boolean", "large_binary")
    ]
    assert unchecked == []
    assert isinstance(EnrollmentTokenRow.__table__.c.note.type, ShortText)


def _rows() -> list[Any]:
    return [mapper.class_ for mapper in EventRow.registry.mappers]
