"""An agent's own part in a campaign, for what its owner says of it."""

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import CampaignRow, ParticipantRow
from coordinator.errors import IllegalMove, NotFound
from coordinator.lifecycle import lock_campaign


async def lock_part(
    session: AsyncSession, campaign_id: str, agent_id: str, refused: str
) -> tuple[CampaignRow, ParticipantRow]:
    """Lock a campaign in which an agent has a part. Returns both.

    Raises NotFound if it has none, and IllegalMove if the campaign is over.

    Args:
        session: the transaction.
        campaign_id: the campaign.
        agent_id: the agent.
        refused: what cannot be done any more once the campaign is over.
    """
    campaign = await lock_campaign(session, campaign_id)
    participant = await session.get(ParticipantRow, (campaign_id, agent_id))
    if participant is None:
        raise NotFound("campaign", campaign_id)  # as for one that does not exist: it is not this agent's
    if campaign.state.is_final:
        raise IllegalMove("campaign", campaign.state, refused)
    return campaign, participant
