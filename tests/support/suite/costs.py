"""Counts of a coordinator's SQLite use: statements, rows returned, and steps of SQLite's virtual machine.

Steps show what row counts hide: a scan of rows that do not appear in the result.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.database import engines
from coordinator.database.prepared import Prepared, Row
from coordinator.database.sqlite import direct as sqlite_direct
from coordinator.database.sqlite import statements as sqlite_statements
from coordinator.database.sqlite.direct import SqliteDirect
from coordinator.database.sqlite.statements import Connection, Statement

_EVERY = 1
"""Virtual-machine steps per call of the progress handler."""


@dataclass
class Cost:
    """Counts by SQL text. statements: executions. rows: rows returned. steps: virtual-machine steps."""

    statements: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)

    @property
    def transactions(self) -> int:
        return self.statements["BEGIN IMMEDIATE"]


class Meter:
    """Counts during blocks of `measured`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._cost: Cost | None = None
        self._steps = 0
        meter, connect = self, sqlite_statements.connect

        def counted(method: Any) -> Any:
            async def execute(statement: Statement, sql: str, *rest: Any) -> Statement:
                meter._steps = 0
                await method(statement, sql, *rest)
                meter._count(sql, len(statement._rows))
                return statement

            return execute

        def step() -> int:
            meter._steps += _EVERY
            return 0

        direct_run_each = SqliteDirect.run_each
        direct_rows, direct_opened, direct_begin = SqliteDirect.rows, sqlite_direct.connect, sqlite_direct.begin

        async def rows(direct: SqliteDirect, statement: Prepared, values: dict[str, Any]) -> Sequence[Row]:
            meter._steps = 0
            found = await direct_rows(direct, statement, values)
            meter._count(statement.text_for(direct._dialect).sql, len(found))
            return found

        async def run_each(direct: SqliteDirect, statement: Prepared, values: Sequence[dict[str, Any]]) -> None:
            meter._steps = 0
            await direct_run_each(direct, statement, values)
            meter._count(statement.text_for(direct._dialect).sql, 0)

        def opened(*given: Any) -> sqlite3.Connection:
            connection = direct_opened(*given)
            connection.set_progress_handler(step, _EVERY)
            return connection

        async def begin(*given: Any) -> None:
            meter._steps = 0
            await direct_begin(*given)
            meter._count("BEGIN IMMEDIATE", 0)

        async def connected(path: Path) -> Connection:
            connection = await connect(path)
            await connection.run_in_thread(lambda opened: opened.set_progress_handler(step, _EVERY))
            return connection

        monkeypatch.setattr(engines, "connect", connected)
        monkeypatch.setattr(SqliteDirect, "rows", rows)
        monkeypatch.setattr(SqliteDirect, "run_each", run_each)
        monkeypatch.setattr(sqlite_direct, "connect", opened)
        monkeypatch.setattr(sqlite_direct, "begin", begin)
        for name in ("execute", "executemany"):
            monkeypatch.setattr(Statement, name, counted(getattr(Statement, name)))

    def _count(self, sql: str, n_rows: int) -> None:
        if self._cost is not None:
            self._cost.steps[sql] += self._steps
            self._cost.statements[sql] += 1
            self._cost.rows[sql] += n_rows

    @contextmanager
    def measured(self) -> Iterator[Cost]:
        """Measure a block. Yields its cost, which is complete when the block ends."""
        self._cost = cost = Cost()
        try:
            yield cost
        finally:
            self._cost = None
