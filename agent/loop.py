"""The agent's main loop: ask for work, do it, ask again."""

import asyncio
import errno
import logging
import random

from agent.errors import AgentError, CoordinatorRefused
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from agent.runner import FINAL, TaskRunner
from agent.settings import AgentSettings
from agent.supervisor import Supervisor
from agent.workspace import Identity, Workspace
from shared.wire.leases import TaskLease
from shared.wire.problems import ProblemType

log = logging.getLogger(__name__)

_BUSY_PAUSE_S = 5.0
_IDLE_PAUSE_S = 1.0
_FULL_DISK_PAUSE_S = 30.0
"""Shorter than a lease lives, so that the task stays ours."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


async def run_agent(workspace: Workspace, identity: Identity, settings: AgentSettings, supervisor: Supervisor) -> None:
    """Work until cancelled; the supervisor is the caller's to stop.

    Raises CoordinatorRefused where the coordinator does not want this agent any more.
    """
    api = CoordinatorApi.of(identity, settings.network)
    runner = TaskRunner(api, workspace, settings, supervisor)
    instance_id = workspace.instance_id
    log.info("agent %s, waiting for work from %s", identity.name, identity.coordinator)
    lease: TaskLease | None = None
    try:
        while True:
            if lease is None:
                lease = await _ask(api, instance_id)
            if lease is not None:
                lease = await _do(runner, lease, instance_id)
    finally:
        await api.close()


async def _ask(api: CoordinatorApi, instance_id: str) -> TaskLease | None:
    """The next task, if one came while we waited. Raises CoordinatorRefused."""
    try:
        lease = await until_reached(lambda: api.acquire(instance_id))
    except CoordinatorRefused as refused:
        if refused.kind != ProblemType.AGENT_ALREADY_RUNNING:
            raise
        log.warning("%s", refused)
        await asyncio.sleep(_BUSY_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311
        return None
    if lease is None:
        # a coordinator that is stopping does not let us wait: it answers at once, over and over
        await asyncio.sleep(random.uniform(0, _IDLE_PAUSE_S))  # noqa: S311
    return lease


async def _do(runner: TaskRunner, lease: TaskLease, instance_id: str) -> TaskLease | None:
    """Do a task. What goes wrong with it alone is logged, and the agent goes on."""
    pause_s = _BUSY_PAUSE_S
    try:
        return await runner.run(lease, instance_id)
    except CoordinatorRefused as refused:
        if refused.kind in FINAL:
            raise
        log.error("the coordinator refused: %s", refused)
    except (AgentError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            pause_s = _FULL_DISK_PAUSE_S
            log.error("the disk of this agent is full: %s; free some space, the task is tried again", error)
        else:
            log.error("%s; the task stays ours and is tried again", error)
    await asyncio.sleep(pause_s)
    return None
