"""The agent's main loop: acquire a task, do it, acquire the next."""

import asyncio
import errno
import logging
import random
import time
from functools import partial

from agent.acceptance import Acceptance, tell_waiting
from agent.benchmarks.interface import MakeBenchmarks
from agent.child.supervisor import Supervisor
from agent.configuration.live import LiveSettings, log_broken_data
from agent.configuration.trainers import OWN, trainer_identity
from agent.errors import AgentError, CoordinatorRefused, LedgerUnusable, UnreadableAssignment
from agent.network import retry
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from agent.owner.terminal import OwnersTerminal
from agent.running.runner import FINAL, TaskRunner
from agent.signing.following import SignedCampaigns
from agent.workspace import Identity, Workspace
from shared.agent_home import home_option
from shared.wire.problems import ProblemType
from shared.wire.tasks.leases import TaskLease

log = logging.getLogger(__name__)

_BUSY_PAUSE_S = 5.0
_IDLE_PAUSE_S = 1.0
_LONGEST_IDLE_PAUSE_S = 15.0
_FULL_DISK_PAUSE_S = 30.0
"""Shorter than a lease, so that this agent keeps the task."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


async def run_agent(
    workspace: Workspace,
    identity: Identity,
    settings: LiveSettings,
    supervisor: Supervisor,
    terminal: OwnersTerminal | None = None,
    benchmarks: MakeBenchmarks | None = None,
) -> None:
    """Work until cancelled. The caller stops the supervisor.

    Raises CoordinatorRefused if the coordinator no longer serves this agent.

    Args:
        workspace: the home folder.
        identity: the agent's.
        settings: the owner's.
        supervisor: of the training child.
        terminal: where the owner is asked about campaigns; without one the log says what waits.
        benchmarks: makes what runs public benchmarks; without it none is offered.
    """
    api = CoordinatorApi.of(identity, workspace.ledger, settings.at_start.network)
    tell = partial(tell_waiting, home=home_option(workspace.home))
    on_waiting = terminal.ask if terminal is not None else tell
    acceptance = Acceptance(workspace.record.campaigns, identity.coordinator, identity.agent_id, on_waiting)
    signed = SignedCampaigns(api, identity.name, workspace.record.statements(identity.signing_key))
    runner = TaskRunner(api, workspace, settings, supervisor, acceptance, signed, benchmarks)
    log_broken_data(settings.at_start)
    if (trainer := settings.at_start.compute.trainer) != OWN:
        log.info("training by %s, as agent.toml says", trainer_identity(trainer))
    log.info("agent %s, waiting for work from %s", identity.name, identity.coordinator)
    acceptance.remind(settings.at_start, tell)
    lease: TaskLease | None = None
    work = _Work(api, runner, signed, workspace)
    passing = asyncio.create_task(_pass_on(runner, workspace, terminal))
    holding = [asyncio.create_task(each.attend()) for each in (runner.releases, runner.reviewer)]
    try:
        await runner.look()
        while True:
            if lease is None:
                lease = await work.acquire()
            if lease is not None:
                lease = await work.do(lease)
    finally:
        for task in (passing, *holding):
            task.cancel()
        await asyncio.gather(passing, *holding, return_exceptions=True)
        await api.close()


async def _pass_on(runner: TaskRunner, workspace: Workspace, terminal: OwnersTerminal | None) -> None:
    """Have the owner asked, and tell the coordinator each answer at once."""
    if terminal is None:
        return
    decided, loop = asyncio.Event(), asyncio.get_running_loop()
    terminal.attend(workspace, lambda: loop.call_soon_threadsafe(decided.set))
    while True:
        await decided.wait()
        decided.clear()
        await runner.look()


class _Work:
    """Acquires tasks and does them, with pauses that no coordinator can talk it out of."""

    def __init__(self, api: CoordinatorApi, runner: TaskRunner, signed: SignedCampaigns, workspace: Workspace) -> None:
        self._api = api
        self._runner = runner
        self._signed = signed
        self._workspace = workspace
        self._instance_id = workspace.instance_id
        self._empty_replies = 0

    async def acquire(self) -> TaskLease | None:
        """Return the next task, or None if none came within the wait. Raises CoordinatorRefused and LedgerUnusable."""
        began = time.monotonic()
        try:
            lease = await until_reached(lambda: self._api.acquire(self._instance_id, statements=self._signed.numbers()))
        except CoordinatorRefused as refused:
            if refused.kind != ProblemType.AGENT_ALREADY_RUNNING:
                raise
            log.warning("%s", refused)
            await asyncio.sleep(_BUSY_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311
            return None
        except UnreadableAssignment as error:
            await self._refuse(error)
            return None
        if lease is not None:
            self._empty_replies = 0
            return lease
        await self._runner.look()
        # one that is shutting down answers at once instead of holding the request; if it always does, ask ever less
        self._empty_replies = 0 if time.monotonic() - began > _IDLE_PAUSE_S else self._empty_replies + 1
        longest_s = min(_LONGEST_IDLE_PAUSE_S, _IDLE_PAUSE_S * 2.0 ** min(self._empty_replies, 16))
        await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311
        return None

    async def do(self, lease: TaskLease) -> TaskLease | None:
        """Do a task. Returns the lease of another task if one replaced it.

        Errors that concern this task alone are logged, and the agent continues.
        """
        pause_s = _BUSY_PAUSE_S
        try:
            successor = await self._runner.run(lease, self._instance_id)
        except CoordinatorRefused as refused:
            if refused.kind in FINAL:
                raise
            log.error("the coordinator refused a request: %s", refused)
        except LedgerUnusable:
            raise
        except (AgentError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                pause_s = _FULL_DISK_PAUSE_S
                log.error("this agent's disk is full: %s; free some space, the task will be tried again", error)
            else:
                log.error("%s; this agent keeps the task and will try it again", error)
        else:
            # tasks that fail at once, one after the other, would fill the disk with records of them
            pause_s = self._pause_after_failures()
            if successor is not None or not pause_s:
                return successor
        await asyncio.sleep(pause_s)
        return None

    async def _refuse(self, unreadable: UnreadableAssignment) -> None:
        """Report that an assignment cannot be read. Raises CoordinatorRefused if it is final for this agent."""
        log.error("%s", unreadable)
        failure, grant = unreadable.failure, unreadable.grant
        try:
            await until_reached(lambda: self._api.put_failure(grant, failure))
        except CoordinatorRefused as refused:
            if refused.kind in FINAL:
                raise
            log.error("the coordinator refused a request: %s", refused)
        self._runner.failures_in_a_row += 1
        await asyncio.sleep(self._pause_after_failures())

    def _pause_after_failures(self) -> float:
        """Seconds to wait after the latest task: none after a success or one failure, then longer with each."""
        others = self._runner.failures_in_a_row - 1
        return random.uniform(0.5, 1.0) * min(retry.CAP_S, retry.BASE_S * 2.0 ** min(others, 16)) if others > 0 else 0.0  # noqa: S311
