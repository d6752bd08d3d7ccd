"""Endpoints by which agents read what the coordinator signed."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from coordinator.errors import NotFound
from coordinator.signing.reading import statements_of
from coordinator.web.authentication import AgentDep
from coordinator.web.deps import ReadSession, ServicesDep
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.bounds import MAX_COUNT
from shared.wire.statements import SignedStatements, SigningKeys

router = APIRouter(prefix="/v1", tags=["signatures"], route_class=BoundedRoute)


@router.get("/signing-keys")
async def list_signing_keys(session: ReadSession, services: ServicesDep, _: AgentDep) -> SigningKeys:
    """The key that statements are signed by, and how it came to be."""
    keys = await services.signer.keys(session)
    return SigningKeys(current=keys.public, successions=list(keys.successions))


@router.get("/agents/me/campaigns/{campaign_id}/statements", responses=refuses(NotFound))
async def list_statements(
    campaign_id: Annotated[str, Path(description="Id of a campaign that the agent was invited to.")],
    session: ReadSession,
    services: ServicesDep,
    agent: AgentDep,
    since: Annotated[int, Query(ge=0, le=MAX_COUNT, description="Number of the first statement.")] = 0,
) -> SignedStatements:
    """The signed statements of a campaign: its specification, its adapters, and the clients of each round."""
    return await statements_of(session, await services.signer.keys(session), agent.id, campaign_id, since)
