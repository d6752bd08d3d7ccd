"""Endpoints for agents: leases, progress, results."""

import random
import re
import time
from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from pydantic import Field

from coordinator.errors import AgentAlreadyRunning, AssignmentFailed, BadUpdate, LeaseLost, ResultDiffers
from coordinator.services import Services
from coordinator.tasks import leases, results
from coordinator.tasks.lease_header import ClaimDep
from coordinator.tasks.owners import held_updates
from coordinator.tasks.owners.own_campaigns import own_campaigns
from coordinator.web.authentication import AgentDep
from coordinator.web.deps import Now, ServicesDep, WriteSession
from coordinator.web.limits.bodies import takes
from coordinator.web.reference.headers import answers, sends, takes_headers
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.wire.agents import OwnCampaigns
from shared.wire.tasks.leases import Failure, LeaseRequest, RenewReply, RenewRequest, TaskLease
from shared.wire.tasks.results import Result

router = APIRouter(prefix="/v1/leases", tags=["leases"], route_class=BoundedRoute)

_WAIT = re.compile(r"\bwait=([0-9]+(?:\.[0-9]+)?)")


@router.post(
    "",
    status_code=201,
    response_model=TaskLease,
    responses={
        204: {"description": "No work; ask again", "headers": answers("Retry-After", "Seconds to wait before that")},
        **refuses(AgentAlreadyRunning),
    },
    openapi_extra=takes_headers(sends("Prefer", "`wait=SECONDS`: how long the request may wait for work.", "wait=50")),
)
@takes(4 << 10)
async def acquire(body: LeaseRequest, request: Request, services: ServicesDep, agent: AgentDep) -> Response:
    """Get the next task. With `Prefer: wait=SECONDS` the request waits for one; it holds no database session."""
    # tasks of this process wake a waiting request at once, those of others by way of ``work_poller``
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
            pause_s = await leases.seconds_to_work(services, agent.id)
            if pause_s == 0:
                lease = await _try(services, agent.id, body, has_waited=has_waited)
            if lease is not None:
                return Response(lease.model_dump_json(), 201, media_type="application/json")
            left_s = began + wait_s - time.monotonic()
            if left_s <= 0 or services.notifiers.closing:
                break
            has_waited = has_waited or not pause_s  # for its own task's pause to end, it has not
            await notifications.wait(min(left_s, pause_s or left_s))
    return Response(status_code=204, headers={"Retry-After": "1"})


async def _try(services: Services, agent_id: str, body: LeaseRequest, *, has_waited: bool) -> TaskLease | None:
    """Grant a task in a transaction of its own. None if there is none, or if its campaign had to be paused."""
    try:
        async with services.database.transact("acquire") as transaction:
            now = services.clock.now()
            lease = await leases.acquire(services, transaction, now, agent_id, body, has_waited=has_waited)
            if lease is not None:
                services.notifiers.after_commit(transaction, campaign_id=lease.assignment.campaign_id, engine=False)
            return lease
    except AssignmentFailed as failed:  # the grant was rolled back
        await leases.pause_without_assignment(services, failed)
        return None


@router.patch("/{task_id}", responses=refuses(LeaseLost))
@takes(8 << 10)
async def renew(body: RenewRequest, claim: ClaimDep, services: ServicesDep) -> RenewReply:
    """Renew a lease and report progress. The reply has a directive: continue or cancel."""
    return await leases.renew(services, claim, body)


@router.delete("/{task_id}", status_code=204, responses=refuses(LeaseLost))
async def release(claim: ClaimDep, session: WriteSession, now: Now) -> None:
    """Return an unfinished task because the agent stops."""
    await leases.release(session, now, claim)


@router.put("/{task_id}/result", response_model=OwnCampaigns, responses=refuses(LeaseLost, ResultDiffers, BadUpdate))
@takes(1 << 20)
async def put_result(
    body: Annotated[Annotated[Result, Field(discriminator="kind")], Body()], claim: ClaimDep, services: ServicesDep
) -> Response:
    """End a task with its result. Repeating the same result changes nothing.

    The reply has the calling agent's campaigns, as `GET /v1/agents/me/campaigns` has them.
    """
    await results.accept(services, claim, body)
    campaigns = await own_campaigns(services.database, claim.agent_id)
    return Response(campaigns.model_dump_json(), media_type="application/json")


@router.put("/{task_id}/hold", status_code=204, responses=refuses(LeaseLost))
async def hold(claim: ClaimDep, services: ServicesDep) -> None:
    """Keep the finished update of a train task back, as the agent's owner says.

    The lease ends. The task waits for the owner's word (`PUT /v1/agents/me/tasks/{task_id}/release`) as long as its
    round, or the next one, may use the update. Repeating the request changes nothing.
    """
    await held_updates.hold(services, claim)


@router.put("/{task_id}/failure", responses=refuses(LeaseLost, ResultDiffers))
@takes(32 << 10)
async def put_failure(body: Failure, claim: ClaimDep, services: ServicesDep) -> dict[str, str]:
    """End a task with the failure that prevented it."""
    await results.fail(services, claim, body)
    return {"status": "accepted"}
