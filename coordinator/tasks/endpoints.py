"""Endpoints for agents: leases, progress, results."""

import random
import re
import time
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from pydantic import Field

from coordinator.tasks import leases, results
from coordinator.tasks.lease_header import ClaimDep
from coordinator.web.authentication import AgentDep
from coordinator.web.deps import Now, ServicesDep, WriteSession
from shared.wire.jobs import Result
from shared.wire.leases import Failure, LeaseRequest, RenewReply, RenewRequest

router = APIRouter(prefix="/v1/leases", tags=["leases"])

_WAIT = re.compile(r"\bwait=(\d+(?:\.\d+)?)")
_POLL_S = 10.0
"""Seconds between a waiting request's own queries of the database. Tasks from this process wake it at once, tasks from
other processes by way of ``work_poller``."""


@router.post("", status_code=201, responses={204: {"description": "no work; ask again after Retry-After"}})
async def acquire(body: LeaseRequest, request: Request, services: ServicesDep, agent: AgentDep) -> Response:
    """Get the next task. With `Prefer: wait=SECONDS` the request waits for one; it holds no database session."""
    asked = _WAIT.search(request.headers.get("Prefer", ""))
    # jitter: agents that lost their connections together should not reconnect together
    longest_s = services.settings.lease.max_wait_s * random.uniform(0.9, 1.0)  # noqa: S311
    wait_s = min(float(asked[1]), longest_s) if asked else 0.0
    # real time, not the injected clock: it only bounds how long a connection is held
    began = time.monotonic()
    has_waited = False
    with services.notifiers.tasks.subscribe(agent.id) as notifications:
        while (
            not await request.is_disconnected()
        ):  # a lease granted to a disconnected caller would block the task until it expires
            lease = None
            if await leases.has_work(services, agent.id):
                async with services.database.write("acquire") as session:
                    ttl_s = services.settings.lease.ttl_s
                    lease = await leases.acquire(
                        session, services.clock.now(), ttl_s, agent.id, body, has_waited=has_waited
                    )
                    if lease is not None:
                        services.notifiers.after_commit(session, campaign_id=lease.job.campaign_id, engine=False)
            if lease is not None:
                return Response(lease.model_dump_json(), 201, media_type="application/json")
            left_s = began + wait_s - time.monotonic()
            if left_s <= 0 or services.notifiers.closing:
                break
            has_waited = True
            await notifications.wait(min(left_s, _POLL_S))
    return Response(status_code=204, headers={"Retry-After": "1"})


@router.patch("/{task_id}")
async def renew(
    body: RenewRequest, claim: ClaimDep, session: WriteSession, now: Now, services: ServicesDep
) -> RenewReply:
    """Renew a lease and report progress. The reply has a directive: continue or cancel."""
    return await leases.renew(session, now, services.settings.lease.ttl_s, claim, body)


@router.delete("/{task_id}", status_code=204)
async def release(claim: ClaimDep, session: WriteSession, now: Now) -> None:
    """Return an unfinished task because the agent stops."""
    await leases.release(session, now, claim)


@router.put("/{task_id}/result")
async def put_result(
    body: Annotated[Annotated[Result, Field(discriminator="kind")], Body()], claim: ClaimDep, services: ServicesDep
) -> dict[str, str]:
    """End a task with its result. Repeating the same result changes nothing."""
    await results.accept(services, claim, body)
    return {"status": "accepted"}


@router.put("/{task_id}/failure")
async def put_failure(body: Failure, claim: ClaimDep, services: ServicesDep) -> dict[str, str]:
    """End a task with the failure that prevented it."""
    await results.fail(services, claim, body)
    return {"status": "accepted"}
