"""Entry points of the coordinator: the service, the engine alone, a new operator key."""

import asyncio
import contextlib
import contextvars
import logging
import resource
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from sqlalchemy import func, select

from coordinator.agents.service import new_operator_key
from coordinator.app import advance_clock, create_app, create_services, engine_work, running
from coordinator.database.migrate import migrate
from coordinator.database.tables import OperatorKeyRow
from coordinator.services import Services
from coordinator.settings import Settings

_POLL_S = 0.02


@dataclass(frozen=True)
class Listen:
    """Address and certificate of the service."""

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls_cert else 'http'}://{self.host}:{self.port}"


class _Server(uvicorn.Server):
    """Ends waiting requests at once when it stops."""

    services: Services

    @property
    def port(self) -> int:
        """The port it listens on. Available once the server has started."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: object = None) -> None:
        self.services.notifiers.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]


def prepare(settings: Settings, *, first_key: bool = True) -> str | None:
    """Bring the schema up to date.

    With *first_key*, also makes the first operator key, to be shown once. Returns None if a key exists already. Raises
    UnknownSchema, and OSError if the data folder cannot be used.
    """

    async def work() -> str | None:
        services = create_services(settings)
        try:
            await migrate(services.database)
            if not first_key:
                return None
            async with services.database.write("first key") as session:
                if await session.scalar(select(func.count()).select_from(OperatorKeyRow)):
                    return None
                return await new_operator_key(session, services.clock.now())
        finally:
            await services.close()

    return asyncio.run(work())


def serve(settings: Settings, listen: Listen, *, with_engine: bool) -> None:
    """Serve until interrupted."""
    server = _server(settings, listen, with_engine=with_engine)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises Ctrl-C again after a clean stop
        server.run()


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve with the engine on a free local port, in a thread, while the block runs. Yields the URL.

    Raises RuntimeError if the service does not start; the log has the cause.
    """
    server = _server(settings, Listen("127.0.0.1", 0), with_engine=True)
    # in the caller's context, by which several services in one process tell their logs apart
    target = contextvars.copy_context().run
    thread = threading.Thread(target=target, args=(server.run,), name="coordinator", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                message = "the coordinator did not start; see its log"
                raise RuntimeError(message)
            thread.join(_POLL_S)
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.should_exit = True
        thread.join()


def _server(settings: Settings, listen: Listen, *, with_engine: bool) -> _Server:
    _allow_many_files()
    services = create_services(settings)
    config = uvicorn.Config(
        create_app(services, with_engine=with_engine),
        host=listen.host,
        port=listen.port,
        ssl_certfile=listen.tls_cert,
        ssl_keyfile=listen.tls_key,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.service.shutdown_s,
    )
    server = _Server(config)
    server.services = services
    return server


def run_engine(settings: Settings) -> None:
    """Run the engine without the service, until interrupted."""
    _allow_many_files()

    async def work() -> None:
        services = create_services(settings)
        try:
            await advance_clock(services)
            async with running(services, engine_work(services)):
                await asyncio.Event().wait()
        finally:
            await services.close()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work())


def _allow_many_files() -> None:
    """Raise the limit of open files to the system's maximum: a round maps every update, and agents wait on sockets."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS reports a maximum that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def new_key(settings: Settings) -> str:
    """Make and return another operator key."""

    async def work() -> str:
        services = create_services(settings)
        try:
            async with services.database.write("further key") as session:
                return await new_operator_key(session, services.clock.now())
        finally:
            await services.close()

    return asyncio.run(work())


def log_to_stderr(*, verbose: bool) -> None:
    """Log each event in one line; with *verbose*, each request too."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("aiosqlite", "asyncio", "uvicorn.error", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
