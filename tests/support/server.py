"""A real coordinator on a real uvicorn server on loopback, in a thread of this process."""

import asyncio
import logging
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from coordinator.agents.service import new_operator_key
from coordinator.app import create_app, create_services
from coordinator.database.migrate import migrate
from coordinator.engine.sweeper import Sweeper
from coordinator.main import Listen, http_config
from coordinator.services import Services
from coordinator.settings import EngineSettings, LeaseSettings, LimitSettings, Settings, StorageSettings
from tests.support.clock import ManualClock

T = TypeVar("T")

log = logging.getLogger(__name__)

_POLLS, _POLL_S = 400, 0.005
"""How many times, and at what interval in seconds, a stopping server checks that all requests are answered."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses at an address: what is free at one of IPv4 may be taken at one of IPv6."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class RunningCoordinator:
    """A coordinator that is serving. url, key: an operator's access. clock: its clock, which tests may move."""

    url: str
    key: str
    services: Services
    clock: ManualClock
    loop: asyncio.AbstractEventLoop = field(repr=False)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the coordinator's own event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=120)


def quick_settings(
    data_dir: Path,
    database_url: str | None,
    updates: str = "files",
    limits: LimitSettings | None = None,
    **lease: float,
) -> Settings:
    """Settings for a coordinator that polls seldom: notifiers report changes in its process, and clock jumps.

    Args:
        data_dir: its data folder.
        database_url: its database; None for SQLite in the data folder.
        updates: the store of its updates.
        limits: what callers may cost; None for the defaults.
        lease: settings of leases; a task that is given back again and again is granted almost at once.
    """
    return Settings(
        data_dir=data_dir,
        database_url=database_url,
        limits=limits or LimitSettings(),
        lease=LeaseSettings(**{"max_pause_s": 0.2, **lease}),
        engine=EngineSettings(poll_s=0.5, sweep_s=1.0),
        storage=StorageSettings(updates=updates),
    )


class _Server(uvicorn.Server):
    """Signals when it listens, and stops once all requests are answered. uvicorn checks only ten times a second."""

    clock_task: asyncio.Task[None]

    def __init__(self, config: uvicorn.Config, services: Services, listens: threading.Event) -> None:
        super().__init__(config)
        self._services = services
        self._listens = listens
        self._over = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._listens.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._over.wait()

    def stop(self) -> None:
        self._services.notifiers.close()
        self._over.set()

    async def shutdown(self, sockets: Any = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_POLLS):
            if not (self.server_state.connections or self.server_state.tasks):
                break
            await asyncio.sleep(_POLL_S)
        for task in self.server_state.tasks:
            task.cancel()
        await self._services.database.cancel(self.clock_task)
        await self.lifespan.shutdown()


async def _tick_when_moved(services: Services, moved: asyncio.Event, *, sweeps: bool) -> None:
    """Run the sweeper and wake the engines at once after each clock jump, instead of at their next poll."""
    sweeper = Sweeper(services)
    sweeper._leftovers_from += timedelta(days=365)  # the app's own sweeper deletes them at its start
    while True:
        await moved.wait()
        moved.clear()
        if sweeps:
            try:
                await sweeper.sweep()
            except Exception:
                log.exception("could not tidy up")
        services.notifiers.wake_engine()
        services.notifiers.wake_verifier()


@contextmanager
def running_coordinator(settings: Settings, *, with_engine: bool = True) -> Iterator[RunningCoordinator]:
    """Run a coordinator while the block runs. Yields it."""
    clock, port = ManualClock(), free_port()
    listens = threading.Event()
    started: dict[str, Any] = {}

    async def main() -> None:
        services = create_services(settings, clock)
        await migrate(services.database)
        async with services.database.write("test") as session:
            started["key"] = await new_operator_key(session, clock.now())
        app = create_app(services, with_engine=with_engine)
        server = _Server(http_config(app, settings, Listen("127.0.0.1", port)), services, listens)
        loop, moved = asyncio.get_running_loop(), asyncio.Event()
        started.update(stop=server.stop, services=services, loop=loop)
        server.clock_task = loop.create_task(_tick_when_moved(services, moved, sweeps=with_engine))
        clock.on_move = lambda: loop.call_soon_threadsafe(moved.set)
        await server.serve()

    def run() -> None:
        loop_factory = uvicorn.Config("", log_config=None).get_loop_factory()  # the same loop as in production
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert listens.wait(60), "the coordinator did not start"
    try:
        yield RunningCoordinator(
            f"http://127.0.0.1:{port}", started["key"], started["services"], clock, started["loop"]
        )
    finally:
        clock.on_move = None
        started["loop"].call_soon_threadsafe(started["stop"])
        thread.join(20)
        assert not thread.is_alive(), "the coordinator did not stop"
