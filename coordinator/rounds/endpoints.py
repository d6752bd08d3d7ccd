"""What agents call: leases, progress, results."""

import random
import re
import time
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from pydantic import Field

from coordinator.deps import AgentDep, Now, ServicesDep, WriteSession, lease_claim
from coordinator.rounds import leases, results
from shared.wire.jobs import Result
from shared.wire.leases import Failure, LeaseRequest, RenewReply, RenewRequest

router = APIRouter(prefix="/v1/leases", tags=["leases"])

_WAIT = re.compile(r"\bwait=(\d+(?:\.\d+)?)")
_LOOK_AGAIN_S = 10.0
"""How often a waiting request looks at the database itself; work from this process wakes it at once, work from another
process is found by the coordinator's own look-out."""


@router.post("", status_code=201, responses={204: {"description": "no work; ask again after Retry-After"}})
async def acquire(body: LeaseRequest, request: Request, at: ServicesDep, agent: AgentDep) -> Response:
    """Get the next task. With `Prefer: wait=SECONDS` the request waits for one; it holds no database session."""
    asked = _WAIT.search(request.headers.get("Prefer", ""))
    # jitter: agents that were cut off together should not come back together
    longest_s = at.settings.lease.max_wait_s * random.uniform(0.9, 1.0)  # noqa: S311
    wait_s = min(float(asked[1]), longest_s) if asked else 0.0
    # real time, not the clock: it bounds how long a connection is held, and decides nothing
    began = time.monotonic()
    has_waited = False
    with at.bells.tasks.listen(agent.id) as bell:
        while not await request.is_disconnected():  # a task for somebody who is gone would wait until his lease ends
            lease = None
            if await leases.has_work(at, agent.id):
                async with at.database.write("acquire") as session:
                    ttl_s = at.settings.lease.ttl_s
                    lease = await leases.acquire(session, at.clock.now(), ttl_s, agent, body, has_waited=has_waited)
            if lease is not None:
                at.bells.events.ring([lease.job.campaign_id])
                return Response(lease.model_dump_json(), 201, media_type="application/json")
            left_s = began + wait_s - time.monotonic()
            if left_s <= 0 or at.bells.closing:
                break
            has_waited = True
            await bell.wait(min(left_s, _LOOK_AGAIN_S))
    return Response(status_code=204, headers={"Retry-After": "1"})


@router.patch("/{task_id}")
async def renew(
    task_id: str,
    body: RenewRequest,
    request: Request,
    session: WriteSession,
    now: Now,
    at: ServicesDep,
    agent: AgentDep,
) -> RenewReply:
    """Keep a lease, and report progress. The reply says whether to go on."""
    claim = lease_claim(request, agent, task_id)
    return await leases.renew(session, now, at.settings.lease.ttl_s, claim, body)


@router.delete("/{task_id}", status_code=204)
async def release(task_id: str, request: Request, session: WriteSession, now: Now, agent: AgentDep) -> None:
    """Give a task back unfinished, because the agent stops."""
    await leases.release(session, now, lease_claim(request, agent, task_id))


@router.put("/{task_id}/result")
async def put_result(
    task_id: str,
    body: Annotated[Annotated[Result, Field(discriminator="kind")], Body()],
    request: Request,
    at: ServicesDep,
    agent: AgentDep,
) -> dict[str, str]:
    """End a task with its result. The same result again changes nothing."""
    await results.accept(at, lease_claim(request, agent, task_id), body)
    return {"status": "accepted"}


@router.put("/{task_id}/failure")
async def put_failure(
    task_id: str, body: Failure, request: Request, at: ServicesDep, agent: AgentDep
) -> dict[str, str]:
    """End a task that this agent cannot do, saying why."""
    await results.fail(at, lease_claim(request, agent, task_id), body)
    return {"status": "accepted"}
