"""The campaign in a path: by its id, or by its name, which means the newest campaign of that name."""

from typing import Annotated

from fastapi import Depends, Path
from sqlalchemy import case, or_, select

from coordinator.database.tables import CampaignRow
from coordinator.errors import NotFound
from coordinator.services import Services
from coordinator.web.authentication import OperatorDep
from coordinator.web.deps import ServicesDep

_Named = Annotated[
    str,
    Path(description="Id of a campaign, or its name, which means the newest campaign of that name."),
]


async def find_campaign_id(services: Services, id_or_name: str) -> str:
    """The id of the campaign with an id, otherwise of the newest with a name. Raises NotFound."""
    is_id = CampaignRow.id == id_or_name  # an id wins over another campaign's name that looks like it
    query = select(CampaignRow.id).where(or_(is_id, CampaignRow.name == id_or_name))
    newest_first = query.order_by(case((is_id, 0), else_=1), CampaignRow.id.desc())
    for (campaign_id,) in await services.database.fetch(newest_first.limit(1)):
        return campaign_id
    raise NotFound("campaign", id_or_name)


async def _campaign_id(campaign: _Named, services: ServicesDep, _: OperatorDep) -> str:
    """Only operators may ask: others must not learn which names exist."""
    return await find_campaign_id(services, campaign)


CampaignId = Annotated[str, Depends(_campaign_id)]
