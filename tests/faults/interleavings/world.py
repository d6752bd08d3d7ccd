"""The coordinator that all examples share. Nothing happens by itself: engines tick only on request."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from coordinator.database.objects import Objects
from coordinator.database.tables import CampaignRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.loop import Engine
from coordinator.engine.sweeper import Sweeper
from coordinator.errors import NotFound
from coordinator.services import Services
from coordinator.settings import EngineSettings, LeaseSettings, Settings, StorageSettings
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator, running_coordinator

T = TypeVar("T")

UNIT_S = 1000.0
"""The clock moves by whole units, and all expiries lie half-way between two units. So the real duration of a step
has no effect, and an example is reproducible."""
DEADLINE_S, LEASE_S, CLAIM_S, STALE_S = (n * UNIT_S + UNIT_S / 2 for n in (0, 1, 2, 20))


class Died(BaseException):
    """Stands for kill -9: the engine does nothing more and does not even release its claim."""


class ScriptedEngine(Engine):
    """An engine that ticks on request. sleeps_before: the transaction before which it sleeps until it is woken."""

    def __init__(self, services: Services, sleeps_before: str | None = None) -> None:
        super().__init__(services)
        self._sleeps_before = sleeps_before
        self._awake = asyncio.Event()
        self._dies = False
        self.asleep = threading.Event()

    async def tick(self) -> bool:
        """Process one due campaign. Returns whether there was one."""
        due = await self._due()
        for campaign_id in due[:1]:
            await self._work(campaign_id)
        return bool(due)

    async def wake(self, *, dies: bool = False) -> None:
        self._dies = dies
        self._awake.set()

    @asynccontextmanager
    async def _locked(
        self, name: str, lock: Objects[CampaignRow], campaign_id: str, **values: Any
    ) -> AsyncIterator[CampaignTx | None]:
        if name == self._sleeps_before:
            self.asleep.set()
            await self._awake.wait()
        if self._dies:
            raise Died
        async with super()._locked(name, lock, campaign_id, **values) as step:
            yield step


class _Errors(logging.Handler):
    """Collects the coordinator's error log records."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], NotFound):
            return  # another campaign released equal bytes; the engine logs it and retries
        self.found.append(self.format(record))


class World:
    """A coordinator, its operator and its clock; one engine may be asleep in it."""

    def __init__(self, data_dir: Path, database_url: str | None) -> None:
        self.settings = Settings(
            data_dir=data_dir,
            database_url=database_url,
            lease=LeaseSettings(ttl_s=LEASE_S),
            engine=EngineSettings(claim_ttl_s=CLAIM_S, poll_s=60),
            # SQLite stores updates as files; Postgres stores them as replicas without a shared folder do
            storage=StorageSettings(updates="files" if database_url is None else "database", stale_upload_s=STALE_S),
        )
        self.scratch = data_dir.parent
        self.n_examples = 0
        self._moved_s = 0.0
        self._errors = _Errors()
        self._stack = ExitStack()
        self._sleeper: tuple[ScriptedEngine, Future[bool]] | None = None
        self._running: RunningCoordinator
        self._sweeper: Sweeper
        self.operator: Operator

    @contextmanager
    def opened(self) -> Iterator["World"]:
        """Serve while the block runs."""
        loggers = [logging.getLogger(name) for name in ("coordinator", "uvicorn.error")]
        for logger in loggers:
            logger.addHandler(self._errors)
        self._start()
        try:
            yield self
        finally:
            self._stack.close()
            for logger in loggers:
                logger.removeHandler(self._errors)

    def _start(self) -> None:
        self._running = self._stack.enter_context(running_coordinator(self.settings, with_engine=False))
        self._running.clock.move(self._moved_s)
        self.operator = Operator(self._running.url, self._running.key)
        self._stack.callback(self.operator.http.close)
        self._sweeper = Sweeper(self._running.services)

    def restart(self) -> None:
        """Stop the coordinator and start it again on its data. A sleeping engine dies."""
        self.wake_engine(dies=True)
        self._stack.close()
        self._start()

    @property
    def url(self) -> str:
        return self._running.url

    @property
    def services(self) -> Services:
        return self._running.services

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._running.run(work)

    def move_clock(self, units: int) -> None:
        self._moved_s += units * UNIT_S
        self._running.clock.move(units * UNIT_S)

    def check_errors(self) -> None:
        """Fail if the coordinator logged an error."""
        found, self._errors.found = self._errors.found, []
        assert not found, "\n".join(found)

    def tick(self, n_engines: int = 1) -> int:
        """Have *n_engines* engines at a time process all due campaigns. Returns the number of ticks that found work."""
        engines = [ScriptedEngine(self.services) for _ in range(n_engines)]

        async def once() -> int:
            return sum(await asyncio.gather(*(engine.tick() for engine in engines)))

        n_ticks = 0
        while found := self.run(once()):
            n_ticks += found
            assert n_ticks < 50, "the engine never runs out of work"
        return n_ticks

    def sweep(self) -> None:
        self.run(self._sweeper.sweep())

    @property
    def has_sleeper(self) -> bool:
        return self._sleeper is not None

    def tick_and_fall_asleep(self, before: str) -> None:
        """Start a tick of an engine that falls asleep before a transaction, if it reaches it."""
        assert self._sleeper is None
        engine = ScriptedEngine(self.services, sleeps_before=before)
        tick = asyncio.run_coroutine_threadsafe(engine.tick(), self._running.loop)
        tick.add_done_callback(lambda _: engine.asleep.set())
        assert engine.asleep.wait(60)
        if tick.done():
            tick.result()
        else:
            self._sleeper = engine, tick

    def wake_engine(self, *, dies: bool = False) -> None:
        """Let the sleeping engine continue, or die where it is."""
        if self._sleeper is None:
            return
        (engine, tick), self._sleeper = self._sleeper, None
        self.run(engine.wake(dies=dies))
        try:
            tick.result(60)
        except Died:
            assert dies
