"""Starts an agent: enrolment, and the run itself."""

import asyncio
import contextlib
import logging
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from agent.api import CoordinatorApi
from agent.errors import AgentError, NotEnrolled
from agent.loop import run_agent
from agent.settings import TEMPLATE, AgentSettings, load_settings
from agent.supervisor import DEFAULT_ARGV, Supervisor, check_installed
from agent.workspace import Identity, Workspace


class AlreadyEnrolled(AgentError):
    """The home folder has an identity."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        super().__init__(f"{home} is enrolled as {name}; use another --home for another agent")


def default_name() -> str:
    """The host's name, as far as agent names allow it."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return kept.strip("._-")[:63] or "agent"


def enroll(
    home: Path, coordinator: str, token: str, name: str, *, ca_file: Path | None = None, insecure: bool = False
) -> Identity:
    """Turn a one-time token into this home's identity, and write settings to start from.

    Raises AlreadyEnrolled, InsecureCoordinator, CoordinatorRefused and CoordinatorUnreachable.
    """
    workspace = Workspace(home)
    try:
        known = workspace.read_identity()
    except NotEnrolled:
        pass
    else:
        raise AlreadyEnrolled(home, known.name)
    ca_file = ca_file.resolve() if ca_file is not None else None

    async def work() -> Identity:
        api = CoordinatorApi(coordinator, ca_file=ca_file, insecure=insecure)
        try:
            reply = await api.enroll(token, name)
        finally:
            await api.close()
        return Identity(
            coordinator=coordinator,
            agent_id=reply.agent_id,
            name=reply.name,
            secret=reply.secret,
            ca_file=ca_file,
            insecure=insecure,
        )

    workspace.create()  # before the token is used: a folder that cannot be written should not cost it
    identity = asyncio.run(work())
    workspace.write_identity(identity)
    if not workspace.settings_file.exists():
        workspace.settings_file.write_text(TEMPLATE, encoding="utf-8")
    return identity


def rotate_secret(home: Path) -> None:
    """Get a new secret; the old one is void. Raises NotEnrolled, CoordinatorRefused and CoordinatorUnreachable."""
    workspace = Workspace(home)
    identity = workspace.read_identity()

    async def work() -> str:
        api = CoordinatorApi(
            identity.coordinator, identity.secret, ca_file=identity.ca_file, insecure=identity.insecure
        )
        try:
            return (await api.rotate_secret()).secret
        finally:
            await api.close()

    with workspace.lock():
        workspace.write_identity(identity.model_copy(update={"secret": asyncio.run(work())}))


def run(home: Path, child: Sequence[str] = DEFAULT_ARGV) -> None:
    """Work until interrupted; the task at hand is then given back.

    child: argv of the training child. Raises NotInstalled, NotEnrolled, SettingsError, AlreadyRunning and
    CoordinatorRefused.
    """
    if child is DEFAULT_ARGV:
        check_installed()
    workspace = Workspace(home)
    identity = workspace.read_identity()
    settings = load_settings(workspace.settings_file)
    workspace.create()
    with workspace.lock():
        workspace.tidy()
        asyncio.run(_until_signalled(workspace, identity, settings, child))


async def _until_signalled(
    workspace: Workspace, identity: Identity, settings: AgentSettings, child: Sequence[str]
) -> None:
    supervisor = Supervisor(settings.compute, child)
    work = asyncio.create_task(run_agent(workspace, identity, settings, supervisor))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await supervisor.stop()


def log_to_stderr() -> None:
    """One line for each thing that happens."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
