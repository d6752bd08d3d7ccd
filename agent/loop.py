"""The agent's main loop: acquire a task, do it, acquire the next."""

import asyncio
import errno
import logging
import random

from agent.errors import AgentError, CoordinatorRefused
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from agent.runner import FINAL, TaskRunner
from agent.settings import SETTINGS_FILE, AgentSettings
from agent.supervisor import Supervisor
from agent.workspace import Identity, Workspace
from shared.wire.leases import TaskLease
from shared.wire.problems import ProblemType

log = logging.getLogger(__name__)

_BUSY_PAUSE_S = 5.0
_IDLE_PAUSE_S = 1.0
_FULL_DISK_PAUSE_S = 30.0
"""Shorter than a lease, so that this agent keeps the task."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


async def run_agent(workspace: Workspace, identity: Identity, settings: AgentSettings, supervisor: Supervisor) -> None:
    """Work until cancelled. The caller stops the supervisor.

    Raises CoordinatorRefused if the coordinator no longer serves this agent.
    """
    api = CoordinatorApi.of(identity, settings.network)
    runner = TaskRunner(api, workspace, settings, supervisor)
    instance_id = workspace.instance_id
    for name, problems in settings.broken_data.items():
        for problem in problems:
            log.error("%s, %s; tasks on the data %r fail until it is corrected", SETTINGS_FILE, problem, name)
    log.info("agent %s, waiting for work from %s", identity.name, identity.coordinator)
    lease: TaskLease | None = None
    try:
        while True:
            if lease is None:
                lease = await _acquire(api, instance_id)
            if lease is not None:
                lease = await _do(runner, lease, instance_id)
    finally:
        await api.close()


async def _acquire(api: CoordinatorApi, instance_id: str) -> TaskLease | None:
    """Return the next task, or None if none came within the wait. Raises CoordinatorRefused."""
    try:
        lease = await until_reached(lambda: api.acquire(instance_id))
    except CoordinatorRefused as refused:
        if refused.kind != ProblemType.AGENT_ALREADY_RUNNING:
            raise
        log.warning("%s", refused)
        await asyncio.sleep(_BUSY_PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311
        return None
    if lease is None:
        # a coordinator that is shutting down answers at once instead of holding the request
        await asyncio.sleep(random.uniform(0, _IDLE_PAUSE_S))  # noqa: S311
    return lease


async def _do(runner: TaskRunner, lease: TaskLease, instance_id: str) -> TaskLease | None:
    """Do a task. Returns the lease of another task if one replaced it.

    Errors that concern this task alone are logged, and the agent continues.
    """
    pause_s = _BUSY_PAUSE_S
    try:
        return await runner.run(lease, instance_id)
    except CoordinatorRefused as refused:
        if refused.kind in FINAL:
            raise
        log.error("the coordinator refused a request: %s", refused)
    except (AgentError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            pause_s = _FULL_DISK_PAUSE_S
            log.error("this agent's disk is full: %s; free some space, the task will be tried again", error)
        else:
            log.error("%s; this agent keeps the task and will try it again", error)
    await asyncio.sleep(pause_s)
    return None
