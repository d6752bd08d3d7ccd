"""The clients of a simulation: agents with separate homes, in one event loop, with one training child for all.

Each client is an enrolled agent that talks HTTP to the coordinator. All share what one machine needs only once: the
child that holds the base model, the cache of downloaded adapters, the digests of the model's files.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

from agent.child.supervisor import Supervisor
from agent.configuration.live import LiveSettings
from agent.configuration.open_policy import opened
from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings
from agent.data.files.json_text import to_json
from agent.network.api import CoordinatorApi
from agent.running.loop import run_agent
from agent.workspace import Identity, Workspace
from fedloom.evaluation.campaigns.here import benchmarks_here
from shared.credentials import AGENT_PREFIX, new_secret
from shared.wire.enrollments import EnrollmentReply

ROWS_FILE = "rows.jsonl"

running_client: ContextVar[str] = ContextVar("running_client", default="")
"""Name of the client that the current log record belongs to."""


def client_names(count: int) -> list[str]:
    """Names whose alphabetical order is the order of the numbers, because the coordinator numbers clients by name."""
    width = max(2, len(str(count - 1)))
    return [f"client-{number:0{width}}" for number in range(count)]


def limits_in_words(policy: PolicySettings) -> str:
    """What simulated clients accept, in one line: they have no owner whose limits would bind."""
    own = ", ".join(f"policy.{name}" for name in PolicySettings.model_fields if name in policy.model_fields_set)
    but = f", except {own} of agent.toml" if own else ""
    return f"the owners' limits are open, since these clients have no owners{but}"


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records as JSON lines, of which a client accepts and refuses the same rows as of the source.

    Raises OSError.
    """
    path.write_text("".join(f"{to_json(record)}\n" for record in records), encoding="ascii")


class Clients:
    """The homes of all clients in one folder, and beside them their shared cache."""

    def __init__(self, folder: Path, names: Sequence[str], settings: AgentSettings, data_name: str) -> None:
        self.names = list(names)
        self._settings = settings
        self._data_name = data_name
        self._homes = {name: Workspace(folder / name, cache=folder / "cache") for name in names}

    def write_rows(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Write a client's rows to a file in its home."""
        home = self._homes[name]
        home.create()
        write_records(home.home / ROWS_FILE, records)

    def enroll(self, coordinator: str, tokens: Mapping[str, str]) -> None:
        """Enrol every client. tokens: one-time token by client name. Raises CoordinatorRefused and
        CoordinatorUnreachable."""

        async def enroll(name: str, secret: str) -> EnrollmentReply:
            api = CoordinatorApi(coordinator, ledger=self._homes[name].ledger)
            try:
                return await api.enroll(tokens[name], name, secret)
            finally:
                await api.close()

        async def enroll_all() -> None:
            for name in self.names:
                secret = new_secret(AGENT_PREFIX)
                reply = await enroll(name, secret)
                identity = Identity(
                    coordinator=coordinator,
                    agent_id=reply.agent_id,
                    name=name,
                    secret=secret,
                    signing_key=reply.signing_key,
                )
                self._homes[name].record.create()
                self._homes[name].write_identity(identity)

        asyncio.run(enroll_all())

    @contextmanager
    def running(self, coordinator: str) -> Iterator["Background"]:
        """Run all clients in a thread for the duration of the block. At its end they give back their open tasks.

        Raises NotEnrolled if a home has no identity.
        """
        identities = {
            name: home.read_identity().model_copy(update={"coordinator": coordinator})
            for name, home in self._homes.items()
        }
        work = Background(self._run(identities))
        work.start()
        try:
            yield work
        finally:
            work.stop()

    async def _run(self, identities: Mapping[str, Identity]) -> None:
        supervisor = Supervisor()

        async def run_client(name: str) -> None:
            running_client.set(name)
            home = self._homes[name]
            home.create()
            home.tidy()
            settings = LiveSettings(self._settings_of(name))
            await run_agent(home, identities[name], settings, supervisor, benchmarks=benchmarks_here)

        try:
            async with asyncio.TaskGroup() as group:
                for name in self.names:
                    group.create_task(run_client(name))
        finally:
            await supervisor.stop()

    def _settings_of(self, name: str) -> AgentSettings:
        source = self._settings.data[self._data_name]
        own_rows = source.at(self._homes[name].home / ROWS_FILE)
        policy = opened(self._settings.policy)
        return self._settings.model_copy(update={"data": {self._data_name: own_rows}, "policy": policy})


class Background:
    """A coroutine in its own event loop and thread, which another thread can stop."""

    def __init__(self, coroutine: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(coroutine)  # the task gets the current context
        # the thread runs in the caller's context, which names the log file
        self._thread = threading.Thread(target=copy_context().run, args=(self._main,), name="clients", daemon=True)
        self._error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raise the error that ended the work early, if any."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Cancel the work and wait for its end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            self._error = group.exceptions[0]
        except Exception as error:  # noqa: BLE001 - check() raises it in the caller's thread
            self._error = error
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


class ClientNameFilter(logging.Filter):
    """Sets ``client`` on a log record to the name of the client that it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.client = running_client.get()
        return True
