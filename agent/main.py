"""Entry points of an agent: enrolment, secret rotation, and the run itself."""

import asyncio
import contextlib
import logging
import re
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from pydantic import ValidationError

from agent.benchmarks.interface import MakeBenchmarks
from agent.child.supervisor import Supervisor, check_libraries_installed
from agent.configuration.live import LiveSettings
from agent.configuration.settings import NetworkSettings
from agent.configuration.template import TEMPLATE
from agent.errors import AgentError, CoordinatorRefused, InvalidOption, NotEnrolled, RecordUnusable
from agent.ledger.ledger import Ledger
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from agent.owner.terminal import OwnersTerminal
from agent.running.loop import run_agent
from agent.workspace import Identity, Workspace
from shared import crash_points
from shared.credentials import hash_secret
from shared.system.stop_signals import hangup_signals
from shared.text.log_lines import LineFormatter
from shared.wire.problems import ProblemType
from shared.wire.words import problems_in_words

log = logging.getLogger(__name__)


class AlreadyEnrolled(AgentError):
    """The home folder already holds an identity."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        super().__init__(
            f"{home} is already enrolled as {name}. If it was revoked, or gets another coordinator, add --again: that "
            "replaces its identity, and what was done stays counted. Another agent needs another --home, whose totals "
            "start at zero"
        )


def default_name() -> str:
    """Return the host's name, with characters that agent names do not allow replaced."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return name.strip("._-")[:63] or "agent"


def begins_beside_settings(home: Path) -> bool:
    """Whether an enrolment makes an empty record in a folder that has settings already. They may be written for it, or
    be left of an agent whose other files were lost."""
    workspace = Workspace(home)
    is_new = not workspace.record.exists and _identity_in(workspace) is None and not workspace.traces_of_work()
    return is_new and workspace.settings_file.exists()


def enroll(
    home: Path,
    coordinator: str,
    token: str,
    name: str | None = None,
    *,
    ca_file: Path | None = None,
    insecure: bool = False,
    again: bool = False,
) -> Identity:
    """Exchange a one-time token for this home's identity, and write a settings file to start from.

    Raises AlreadyEnrolled, NotEnrolled, AlreadyRunning, RecordUnusable, InsecureCoordinator, BadEnvironment,
    InvalidOption, CoordinatorRefused and CoordinatorUnreachable.

    Args:
        home: the agent's home folder.
        coordinator: the coordinator's URL.
        token: the one-time token from the operator.
        name: the agent's name; by default the one that it has, or the host's.
        ca_file: a CA to trust instead of the default ones.
        insecure: allow plain http:// to another host.
        again: replace the identity of this home. Its record stays, so no total goes down.
    """
    workspace = Workspace(home)
    existing = _identity_in(workspace)
    if existing is not None and not again:
        raise AlreadyEnrolled(home, existing.name)
    if again and existing is None and not workspace.record.exists:
        raise NotEnrolled(home)
    if not workspace.record.exists and (traces := workspace.traces_of_work()):
        raise RecordUnusable(workspace.record.path, f"it is missing, and an agent worked here ({', '.join(traces)})")
    workspace.create()  # before the token is used: an unwritable folder must not cost it
    with workspace.lock():
        workspace.record.create()
        workspace.record.check()
        identity = _exchange(
            workspace,
            coordinator.strip().rstrip("/"),  # copied by a person, with the line's end
            token.strip(),
            name or (existing.name if existing is not None else default_name()),
            ca_file.resolve() if ca_file is not None else None,
            insecure=insecure,
        )
        crash_points.reach("agent: enrolled")
        workspace.write_identity(identity)
    workspace.write_settings(TEMPLATE)
    return identity


def _identity_in(workspace: Workspace) -> Identity | None:
    try:
        return workspace.read_identity()
    except NotEnrolled:
        return None


def _exchange(
    workspace: Workspace, coordinator: str, token: str, name: str, ca_file: Path | None, *, insecure: bool
) -> Identity:
    """The identity that a coordinator gives for a token."""

    async def exchange(secret: str) -> Identity:
        api = CoordinatorApi(coordinator, ledger=workspace.ledger, ca_file=ca_file, insecure=insecure)
        try:
            reply = await api.enroll(token, name, secret)
        except ValidationError as error:
            raise InvalidOption("; ".join(problems_in_words(error))) from error
        finally:
            await api.close()
        return Identity(
            coordinator=coordinator,
            agent_id=reply.agent_id,
            name=reply.name,
            secret=secret,
            signing_key=reply.signing_key,
            ca_file=ca_file,
            insecure=insecure,
        )

    return asyncio.run(exchange(workspace.secret_for(f"enrolling with {hash_secret(token)}")))


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
        await _send_secret(identity, changed.secret, workspace.ledger, network)
    except CoordinatorRefused as refused:
        if refused.kind != ProblemType.UNAUTHENTICATED:
            raise
        await _send_secret(changed, changed.secret, workspace.ledger, network)
    crash_points.reach("agent: secret changed")
    workspace.write_identity(changed)
    return changed


async def _send_secret(identity: Identity, secret: str, ledger: Ledger, network: NetworkSettings | None) -> None:
    api = CoordinatorApi.of(identity, ledger, network)
    try:
        await api.change_secret(secret)
    finally:
        await api.close()


def run(
    home: Path,
    child: Sequence[str] | None = None,
    terminal: OwnersTerminal | None = None,
    benchmarks: MakeBenchmarks | None = None,
) -> None:
    """Work until interrupted, then give the current task back.

    Raises NotInstalled, NotEnrolled, SettingsError, AlreadyRunning, RecordUnusable and CoordinatorRefused.

    Args:
        home: the agent's home folder.
        child: argv of the training child; None starts the default one.
        terminal: where the owner is asked about campaigns; None: the log says what waits.
        benchmarks: makes what runs public benchmarks; None: none is offered.
    """
    if child is None:
        check_libraries_installed()
    workspace = Workspace(home)
    identity = workspace.read_identity()
    settings = LiveSettings.read(workspace.settings_file)
    workspace.record.check()
    workspace.create()
    with workspace.lock():
        _check_ledger(workspace)
        workspace.tidy()
        supervisor = Supervisor(child)

        async def work() -> None:
            await _work(workspace, identity, settings, supervisor, terminal, benchmarks)

        asyncio.run(_until_signalled(work, supervisor))


def _check_ledger(workspace: Workspace) -> None:
    """Raise LedgerUnusable if the ledger is damaged. Say so if bookings name entries that it lacks."""
    head, anchors = workspace.ledger.head(), workspace.record.bookings.anchors()
    named = max((anchor.n for anchor in anchors), default=0)
    if named > head.n:
        log.warning(
            "the ledger ends with entry %d, and record.db names entry %d: `fedloom agent ledger verify` says what is "
            "missing. Put the whole folder back, if you have it",
            *(head.n, named),
        )


async def _work(
    workspace: Workspace,
    identity: Identity,
    settings: LiveSettings,
    supervisor: Supervisor,
    terminal: OwnersTerminal | None,
    benchmarks: MakeBenchmarks | None,
) -> None:
    if workspace.pending_secret(_rotation_purpose(identity)) is not None:
        identity = await until_reached(lambda: _change_secret(workspace, identity, settings.at_start.network))
    await run_agent(workspace, identity, settings, supervisor, terminal, benchmarks)


async def _until_signalled(working: Callable[[], Coroutine[None, None, None]], supervisor: Supervisor) -> None:
    work = asyncio.create_task(working())
    loop = asyncio.get_running_loop()
    # event loops on Windows have no signal handlers; there asyncio cancels this task after Ctrl-C, and so its work
    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, work.cancel)
        for hangup in hangup_signals():  # it comes twice, from the kernel and from the shell
            loop.add_signal_handler(hangup, lambda: work.cancelling() or work.cancel())
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await supervisor.stop()
    log.info("stopped")


def log_to_stderr() -> None:
    """Log to stderr, one line an event."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
