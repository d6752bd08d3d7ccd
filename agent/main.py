"""Entry points of an agent: enrolment, secret rotation, and the run itself."""

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
from agent.settings import AgentSettings, NetworkSettings, load_settings
from agent.settings_template import TEMPLATE
from agent.supervisor import Supervisor, check_libraries_installed
from agent.workspace import Identity, Workspace
from shared import crash_points
from shared.credentials import hash_secret
from shared.wire.problems import ProblemType


class AlreadyEnrolled(AgentError):
    """The home folder already holds an identity."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        super().__init__(f"{home} is already enrolled as {name}; use another --home for another agent")


def default_name() -> str:
    """Return the host's name, with characters that agent names do not allow replaced."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return name.strip("._-")[:63] or "agent"


def enroll(
    home: Path, coordinator: str, token: str, name: str, *, ca_file: Path | None = None, insecure: bool = False
) -> Identity:
    """Exchange a one-time token for this home's identity, and write a settings file to start from.

    Raises AlreadyEnrolled, InsecureCoordinator, CoordinatorRefused and CoordinatorUnreachable.

    Args:
        home: the agent's home folder.
        coordinator: the coordinator's URL.
        token: the one-time token from the operator.
        name: the agent's name.
        ca_file: a CA to trust instead of the default ones.
        insecure: allow plain http:// to another host.
    """
    workspace = Workspace(home)
    try:
        existing = workspace.read_identity()
    except NotEnrolled:
        pass
    else:
        raise AlreadyEnrolled(home, existing.name)
    ca_file = ca_file.resolve() if ca_file is not None else None

    async def exchange(secret: str) -> Identity:
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

    workspace.create()  # before the token is used: an unwritable folder must not cost it
    identity = asyncio.run(exchange(workspace.secret_for(f"enrolling with {hash_secret(token)}")))
    crash_points.reach("agent: enrolled")
    workspace.write_identity(identity)
    if not workspace.settings_file.exists():
        workspace.settings_file.write_text(TEMPLATE, encoding="utf-8")
    return identity


def rotate_secret(home: Path) -> None:
    """Replace the agent's secret; the old one becomes invalid.

    Raises NotEnrolled, AlreadyRunning, CoordinatorRefused and CoordinatorUnreachable. After an error it can be called
    again, and the agent can run.
    """
    workspace = Workspace(home)
    identity = workspace.read_identity()
    with workspace.lock():
        asyncio.run(_change_secret(workspace, identity))


def _rotation_purpose(identity: Identity) -> str:
    return f"instead of {hash_secret(identity.secret)}"


async def _change_secret(workspace: Workspace, identity: Identity, network: NetworkSettings | None = None) -> Identity:
    """Change the secret, or finish an interrupted change: the coordinator may already have the new one."""
    changed = identity.model_copy(update={"secret": workspace.secret_for(_rotation_purpose(identity))})
    try:
        await _send_secret(identity, changed.secret, network)
    except CoordinatorRefused as refused:
        if refused.kind != ProblemType.UNAUTHENTICATED:
            raise
        await _send_secret(changed, changed.secret, network)
    crash_points.reach("agent: secret changed")
    workspace.write_identity(changed)
    return changed


async def _send_secret(identity: Identity, secret: str, network: NetworkSettings | None) -> None:
    api = CoordinatorApi.of(identity, network)
    try:
        await api.change_secret(secret)
    finally:
        await api.close()


def run(home: Path, child: Sequence[str] | None = None) -> None:
    """Work until interrupted, then give the current task back.

    child: argv of the training child; None starts the default one. Raises NotInstalled, NotEnrolled, SettingsError,
    AlreadyRunning and CoordinatorRefused.
    """
    if child is None:
        check_libraries_installed()
    workspace = Workspace(home)
    identity = workspace.read_identity()
    settings = load_settings(workspace.settings_file)
    workspace.create()
    with workspace.lock():
        workspace.tidy()
        asyncio.run(_until_signalled(workspace, identity, settings, child))


async def _work(workspace: Workspace, identity: Identity, settings: AgentSettings, supervisor: Supervisor) -> None:
    if workspace.pending_secret(_rotation_purpose(identity)) is not None:
        identity = await until_reached(lambda: _change_secret(workspace, identity, settings.network))
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
    """Log to stderr, one line an event."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
