"""Entry points of the coordinator: the service, the engine alone, a new operator key."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from sqlalchemy import func, select
from starlette.types import ASGIApp

from coordinator.agents.service import new_operator_key
from coordinator.app import advance_clock, create_app, create_services, engine_work, replica_work, running
from coordinator.database.migrate import migrate
from coordinator.database.tables import OperatorKeyRow
from coordinator.process import memory, open_files
from coordinator.services import Services
from coordinator.settings import LimitSettings, Settings
from coordinator.signing.key_file import Keys
from coordinator.storage.data_folder import KEY_FILE
from coordinator.web.limits.connections import Connections
from coordinator.web.limits.handshakes import with_limits
from coordinator.web.limits.protocol import BoundedProtocol
from coordinator.web.limits.reading import READ_BYTES, SmallReads
from shared.network.urls import on_this_machine
from shared.system.durable import atomic_text, atomic_write
from shared.system.stop_signals import hangup_signals
from shared.text.log_lines import LineFormatter

log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_S = 0.02
_COLLECTIONS = 20_000, 20, 50
"""Thresholds of the garbage collector. Each of thousands of waiting requests has hundreds of objects, which Python's
own thresholds (700, 10, 10) have it look at again and again: a seventh of the time of a coordinator at rest."""
_PER_HANDSHAKE = 4
"""With TLS, one connection in so many may be in its handshake, which takes milliseconds. By default 2,048 may be, half
of them from one address: a thousand agents may return at the same moment."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listen:
    """Address and certificate of the service."""

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def url(self) -> str:
        """The URL for commands on this machine."""
        scheme = "https" if self.tls_cert else "http"
        return f"{scheme}://{on_this_machine(self.host)}:{self.port}"


class _Server(uvicorn.Server):
    """Ends waiting requests at once when it stops."""

    services: Services
    handshakes: Connections
    when_listening: Callable[[], None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on. Available once the server has started."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def startup(self, sockets: object = None) -> None:
        if not self.config.is_ssl:
            await super().startup(sockets)  # type: ignore[arg-type]
            return
        loop, header_s = asyncio.get_running_loop(), self.services.settings.limits.header_s
        of_loop = loop.create_server  # uvicorn has no parameter for another
        loop.create_server = with_limits(of_loop, self.handshakes, header_s)  # type: ignore[method-assign]
        try:
            await super().startup(sockets)  # type: ignore[arg-type]
        finally:
            loop.create_server = of_loop  # type: ignore[method-assign]

    async def main_loop(self) -> None:
        if self.when_listening is not None:
            self.when_listening()
        await super().main_loop()

    async def shutdown(self, sockets: object = None) -> None:
        self.services.notifiers.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]


def prepare(settings: Settings, *, first_key: bool = True) -> Path | None:
    """Bring the schema up to date.

    With *first_key*, also opens the signing key, and makes the first operator key, in a file of the data folder that
    only its owner can read. Returns that file, or None if a key exists already. Raises UnknownSchema,
    SigningKeyUnusable, and OSError if the data folder cannot be used.
    """
    file = settings.data_dir / KEY_FILE

    async def work(services: Services) -> Path | None:
        await migrate(services.database)
        if not first_key:
            return None
        async with services.database.write("signing key") as session:
            await services.signer.open(session)
        async with services.database.write("first key") as session:
            if await session.scalar(select(func.count()).select_from(OperatorKeyRow)):
                return None
            key = await new_operator_key(session, services.clock.now())
            # before the commit: a key that is known, but in no file, would be lost
            await asyncio.to_thread(atomic_text, file, key + "\n", mode=0o600)
            return file

    return _with_services(settings, work)


def serve(
    settings: Settings, listen: Listen, *, with_engine: bool, when_listening: Callable[[], None] | None = None
) -> None:
    """Serve until interrupted. when_listening: called once connections are accepted."""
    server = _server(settings, listen, with_engine=with_engine)
    server.when_listening = when_listening
    for number in hangup_signals():  # uvicorn stops by itself at Ctrl-C and SIGTERM alone
        signal.signal(number, server.handle_exit)
    gc.collect()
    gc.freeze()  # what is imported and built by now stays; each full collection would look at all of it again
    gc.set_threshold(*_COLLECTIONS)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises a signal again after a clean stop
        server.run()
    log.info("stopped")


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
    open_files.allow_many()
    services = create_services(settings)
    server = _Server(http_config(create_app(services, with_engine=with_engine), settings, listen))
    server.services = services
    server.handshakes = _handshakes(settings.limits)
    return server


def http_config(app: ASGIApp, settings: Settings, listen: Listen) -> uvicorn.Config:
    """uvicorn's configuration: with a limit of connections, and with time-outs for what is sent and taken."""
    limits = settings.limits
    most = open_files.most_connections(limits.connections, open_files.limit())
    connections = Connections(
        most - (most // _PER_HANDSHAKE if listen.tls_cert else 0),
        limits.connections_per_address,
        limits.is_proxy,
        limits.header_s,
    )
    return uvicorn.Config(
        app,
        host=listen.host,
        port=listen.port,
        ssl_certfile=listen.tls_cert,
        ssl_keyfile=listen.tls_key,
        http=_protocols(connections, limits),  # type: ignore[arg-type]  # any maker of protocols
        ws="none",  # its protocol would have none of these limits
        timeout_keep_alive=limits.keep_alive_s,
        # explicit: uvicorn's default believes everybody on 127.0.0.1, and reads FORWARDED_ALLOW_IPS
        proxy_headers=bool(limits.trusted_proxies),
        forwarded_allow_ips=limits.trusted_proxies or "",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.service.shutdown_s,
    )


def _protocols(connections: Connections, limits: LimitSettings) -> Callable[..., SmallReads]:
    """Makes the protocol of each connection."""
    buffer = bytearray(READ_BYTES)

    def make(**uvicorns: Any) -> SmallReads:
        return SmallReads(BoundedProtocol(connections, limits, **uvicorns), buffer)

    return make


def _handshakes(limits: LimitSettings) -> Connections:
    """Limits of the connections in their TLS handshake: those of one address leave room for others."""
    most = open_files.most_connections(limits.connections, open_files.limit()) // _PER_HANDSHAKE
    return Connections(most, most // 2, limits.is_proxy, grace_s=0)


def run_engine(settings: Settings) -> None:
    """Run the engine without the service, until interrupted."""
    open_files.allow_many()

    async def work() -> None:
        services = create_services(settings)
        try:
            await advance_clock(services)
            async with running(services, [*engine_work(services), *replica_work(services)]):
                await _until_signalled()
        finally:
            await services.close()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work())
    log.info("stopped")


async def _until_signalled() -> None:
    """Wait for SIGTERM or the end of the terminal. Ctrl-C ends the wait with KeyboardInterrupt."""
    signalled, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, *hangup_signals()):
        loop.add_signal_handler(number, signalled.set)
    await signalled.wait()


def new_key(settings: Settings, file: Path | None = None) -> str:
    """Make and return another operator key. file: written with it, for its owner alone.

    Raises FileExistsError if *file* exists, and OSError.
    """

    async def work(services: Services) -> str:
        async with services.database.write("further key") as session:
            key = await new_operator_key(session, services.clock.now())
            if file is not None:
                await asyncio.to_thread(_write_new, file, key)
            return key

    return _with_services(settings, work)


def signing_key(settings: Settings) -> Keys:
    """Return the signing key, made if there is none yet. Raises SigningKeyUnusable and OSError."""

    async def work(services: Services) -> Keys:
        async with services.database.write("signing key") as session:
            return await services.signer.open(session)

    return _with_services(settings, work)


def rotate_signing_key(settings: Settings, *, is_lost: bool) -> Keys:
    """Make the next signing key. is_lost: without a signature of the one before.

    Raises SigningKeyUnusable, SigningKeyNotLost and OSError.
    """

    async def work(services: Services) -> Keys:
        async with services.database.write("next signing key") as session:
            return await services.signer.rotate(session, is_lost=is_lost)

    return _with_services(settings, work)


def _with_services(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    async def run() -> T:
        services = create_services(settings)
        try:
            return await work(services)
        finally:
            await services.close()

    return asyncio.run(run())


def _write_new(file: Path, key: str) -> None:
    try:
        with atomic_write(file, mode=0o600, replace=False) as draft:
            draft.write(f"{key}\n".encode())
    except FileExistsError as error:
        raise FileExistsError(error.errno, "it exists already; give the name of a new file", str(file)) from error


def begin_process(*, verbose: bool) -> None:
    """Set up a process that serves, or aggregates, and does nothing else. Call it before there are threads.

    verbose: whether to log each request too.
    """
    memory.bound_arenas()
    _log_to_stderr(verbose=verbose)


def _log_to_stderr(*, verbose: bool) -> None:
    """Log each event in one line; with *verbose*, each request too."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in ("aiosqlite", "asyncio", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each piece that is not HTTP
