"""Dependencies of endpoints that need a lease: the claim in the request's lease header."""

from typing import Annotated

from fastapi import Depends, Header

from coordinator.tasks.claims import LeaseClaim, LeaseHolder
from coordinator.web.authentication import AgentDep
from shared.wire.base import LEASE_HEADER

LeaseHeader = Annotated[
    str,
    Header(
        alias=LEASE_HEADER,
        description="`ATTEMPT.TOKEN` of the lease, which proves that the sender holds it.",
        examples=["1.bX1l3Lh0"],
    ),
]


async def _holder(agent: AgentDep, lease: LeaseHeader = "") -> LeaseHolder:
    return LeaseHolder(agent.id, lease)


HolderDep = Annotated[LeaseHolder, Depends(_holder)]


async def _claim(task_id: str, holder: HolderDep) -> LeaseClaim:
    return holder.claim_of(task_id)


ClaimDep = Annotated[LeaseClaim, Depends(_claim)]
"""The claim on the task in the request's path. Raises LeaseLost if the header is missing or malformed."""
