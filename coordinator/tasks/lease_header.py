"""Dependencies of endpoints that need a lease: the claim in the request's lease header."""

from typing import Annotated

from fastapi import Depends, Request

from coordinator.tasks.claims import LeaseClaim, LeaseHolder
from coordinator.web.authentication import AgentDep
from shared.wire.base import LEASE_HEADER


async def _holder(request: Request, agent: AgentDep) -> LeaseHolder:
    return LeaseHolder(agent.id, request.headers.get(LEASE_HEADER, ""))


HolderDep = Annotated[LeaseHolder, Depends(_holder)]


async def _claim(task_id: str, holder: HolderDep) -> LeaseClaim:
    return holder.claim_of(task_id)


ClaimDep = Annotated[LeaseClaim, Depends(_claim)]
"""The claim on the task in the request's path. Raises LeaseLost if the header is missing or malformed."""
