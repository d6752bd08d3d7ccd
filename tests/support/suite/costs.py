"""Counts of a coordinator's SQLite use: statements, rows returned, and steps of SQLite's virtual machine.

Steps show what row counts hide: a scan of rows that do not appear in the result.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.database import sessions as db
from coordinator.database import sqlite_statements
from coordinator.database.sqlite_statements import Connection, Statement

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
                if meter._cost is not None:
                    meter._cost.steps[sql] += meter._steps
                    meter._cost.statements[sql] += 1
                    meter._cost.rows[sql] += len(statement._rows)
                return statement

            return execute

        def step() -> int:
            meter._steps += _EVERY
            return 0

        async def connected(path: Path) -> Connection:
            connection = await connect(path)
            await connection.run_in_thread(lambda opened: opened.set_progress_handler(step, _EVERY))
            return connection

        monkeypatch.setattr(db, "connect", connected)
        for name in ("execute", "executemany"):
            monkeypatch.setattr(Statement, name, counted(getattr(Statement, name)))

    @contextmanager
    def measured(self) -> Iterator[Cost]:
        """Measure a block. Yields its cost, which is complete when the block ends."""
        self._cost = cost = Cost()
        try:
            yield cost
        finally:
            self._cost = None
