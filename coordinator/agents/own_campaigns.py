"""What an agent may know of the campaigns that it takes part in: their state, and what its own update weighed."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import CampaignRow, ParticipantRow
from shared.wire.agents import MAX_OWN_CAMPAIGNS, OwnCampaign, OwnCampaigns


async def own_campaigns(session: AsyncSession, agent_id: str) -> OwnCampaigns:
    """The agent's campaigns: those that are not over, then those that ended last.

    Nothing of other agents is in it; so neither is the reason of a pause, which may name one.
    """
    query = (
        select(
            CampaignRow.id,
            CampaignRow.name,
            CampaignRow.state,
            ParticipantRow.state.label("participant"),
            CampaignRow.history,
            CampaignRow.rounds_closed,
            CampaignRow.spec_json,  # neither parsed nor with the adapter's contract: waiting agents ask often
            ParticipantRow.n_train,
            ParticipantRow.update_round,
            ParticipantRow.update_weight,
        )
        .join(ParticipantRow, ParticipantRow.campaign_id == CampaignRow.id)
        .where(ParticipantRow.agent_id == agent_id)
        .order_by(CampaignRow.ended_at.is_not(None), CampaignRow.ended_at.desc(), CampaignRow.id.desc())
        .limit(MAX_OWN_CAMPAIGNS)
    )
    return OwnCampaigns(
        campaigns=[
            OwnCampaign(
                id=row.id,
                name=row.name,
                state=row.state,
                participant=row.participant,
                history=row.history,
                rounds_closed=row.rounds_closed,
                rounds=row.spec_json["rounds"],
                n_train=row.n_train,
                update_round=row.update_round,
                update_weight=row.update_weight,
            )
            for row in (await session.execute(query)).all()
        ]
    )
