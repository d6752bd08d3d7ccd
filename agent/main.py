"""Starts an agent: enrolment, and the run itself."""

import asyncio
import contextlib
import logging
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from agent.errors import AgentError, CoordinatorRefused, NotEnrolled
from agent.loop import run_agent
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from agent.settings import TEMPLATE, AgentSettings, load_settings
from agent.supervisor import Supervisor, check_installed
from agent.workspace import Identity, Workspace
from shared import crash_points
from shared.credentials import hash_secret
from shared.wire.problems import ProblemType


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

    async def work(secret: str) -> Identity:
        api = CoordinatorApi(coordinator, ca_file=ca_file, insecure=insecure)
        try:
            reply = await api.enroll(token, name, secret)
        finally:
            await api.close()
        return Identity(
            coordinator=coordinator,
            agent_id=reply.agent_id,
            name=reply.name,
            secret=secret,
            ca_file=ca_file,
            insecure=insecure,
        )

    workspace.create()  # before the token is used: a folder that cannot be written should not cost it
    identity = asyncio.run(work(workspace.secret_for(f"enrolling with {hash_secret(token)}")))
    crash_points.reach("agent: enrolled")
    workspace.write_identity(identity)
    if not workspace.settings_file.exists():
        workspace.settings_file.write_text(TEMPLATE, encoding="utf-8")
    return identity


def rotate_secret(home: Path) -> None:
    """Get a new secret; the old one is void. Raises NotEnrolled, CoordinatorRefused and CoordinatorUnreachable, after
    which it may be called again, and the agent may be run."""
    workspace = Workspace(home)
    identity = workspace.read_identity()
    with workspace.lock():
        asyncio.run(_change_secret(workspace, identity))


def _rotating(identity: Identity) -> str:
    return f"instead of {hash_secret(identity.secret)}"


async def _change_secret(workspace: Workspace, identity: Identity) -> Identity:
    """Change the secret, or end a change that was cut: the coordinator may know the new one already."""
    changed = identity.model_copy(update={"secret": workspace.secret_for(_rotating(identity))})
    try:
        await _tell_secret(identity, changed.secret)
    except CoordinatorRefused as refused:
        if refused.kind != ProblemType.UNAUTHENTICATED:
            raise
        await _tell_secret(changed, changed.secret)
    crash_points.reach("agent: secret changed")
    workspace.write_identity(changed)
    return changed


async def _tell_secret(identity: Identity, secret: str) -> None:
    api = CoordinatorApi.of(identity)
    try:
        await api.change_secret(secret)
    finally:
        await api.close()


def run(home: Path, child: Sequence[str] | None = None) -> None:
    """Work until interrupted; the task at hand is then given back.

    child: argv of the training child, where it is not the default one. Raises NotInstalled, NotEnrolled, SettingsError,
    AlreadyRunning and CoordinatorRefused.
    """
    if child is None:
        check_installed()
    workspace = Workspace(home)
    identity = workspace.read_identity()
    settings = load_settings(workspace.settings_file)
    workspace.create()
    with workspace.lock():
        workspace.tidy()
        asyncio.run(_until_signalled(workspace, identity, settings, child))


async def _work(workspace: Workspace, identity: Identity, settings: AgentSettings, supervisor: Supervisor) -> None:
    if workspace.found_secret(_rotating(identity)) is not None:
        identity = await until_reached(lambda: _change_secret(workspace, identity))
    await run_agent(workspace, identity, settings, supervisor)


async def _until_signalled(
    workspace: Workspace, identity: Identity, settings: AgentSettings, child: Sequence[str] | None
) -> None:
    supervisor = Supervisor(settings.compute, child)
    work = asyncio.create_task(_work(workspace, identity, settings, supervisor))
    loop = asyncio.get_running_loop()
    # event loops on Windows have no signal handlers; there asyncio cancels this task after Ctrl-C, and so its work
    with contextlib.suppress(NotImplementedError):
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
