"""A real coordinator behind a real uvicorn on loopback, in a thread of this process."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from coordinator.agents.service import new_operator_key
from coordinator.app import create_app, create_services
from coordinator.deps import Services
from coordinator.migrate import migrate
from coordinator.settings import EngineSettings, LeaseSettings, Settings
from tests.support.clock import ManualClock

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RunningCoordinator:
    """url, key: how to reach it as an operator. clock: its clock, which tests may move."""

    url: str
    key: str
    services: Services
    clock: ManualClock
    loop: asyncio.AbstractEventLoop = field(repr=False)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the coordinator's own event loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=120)


def quick_settings(data_dir: Path, database_url: str | None, **lease: float) -> Settings:
    return Settings(
        data_dir=data_dir,
        database_url=database_url,
        lease=LeaseSettings(**lease),
        engine=EngineSettings(poll_s=0.05, sweep_s=0.1),
    )


class _Announced(uvicorn.Server):
    """Says when it listens."""

    announce: Callable[[], None]

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.announce()


@contextmanager
def running_coordinator(settings: Settings, *, with_engine: bool = True) -> Iterator[RunningCoordinator]:
    """Serve for the length of the block."""
    clock, port = ManualClock(), free_port()
    started = threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        services = create_services(settings, clock)
        await migrate(services.database)
        async with services.database.write("test") as session:
            found["key"] = await new_operator_key(session, clock.now())
        app = create_app(services, with_engine=with_engine)
        server = _Announced(
            uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        )
        server.announce = started.set
        found.update(server=server, services=services, loop=asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(60), "the coordinator did not start"
    try:
        yield RunningCoordinator(f"http://127.0.0.1:{port}", found["key"], found["services"], clock, found["loop"])
    finally:
        found["loop"].call_soon_threadsafe(found["services"].bells.close)
        found["server"].should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the coordinator did not stop"
