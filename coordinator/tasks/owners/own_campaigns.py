"""What an agent may know of the campaigns that it takes part in: their state, and what its own update weighed."""

from sqlalchemy import select

from coordinator.database.prepared import Prepared, given
from coordinator.database.sessions import Database
from coordinator.database.tables import CampaignRow, ParticipantRow
from shared.wire.agents import MAX_OWN_CAMPAIGNS, OwnCampaign, OwnCampaigns

_COLUMNS = {
    "id": CampaignRow.id,
    "name": CampaignRow.name,
    "state": CampaignRow.state,
    "participant": ParticipantRow.state,
    "history": CampaignRow.history,
    "rounds_closed": CampaignRow.rounds_closed,
    "n_train": ParticipantRow.n_train,
    "update_round": ParticipantRow.update_round,
    "update_weight": ParticipantRow.update_weight,
}
_OWN = Prepared(
    # neither parsed nor with the adapter's contract: waiting agents ask often
    select(CampaignRow.spec_json, *_COLUMNS.values())
    .join(ParticipantRow, ParticipantRow.campaign_id == CampaignRow.id)
    .where(ParticipantRow.agent_id == given("agent"))
    .order_by(CampaignRow.ended_at.is_not(None), CampaignRow.ended_at.desc(), CampaignRow.id.desc())
    .limit(MAX_OWN_CAMPAIGNS)
)


async def own_campaigns(database: Database, agent_id: str) -> OwnCampaigns:
    """The agent's campaigns: those that are not over, then those that ended last.

    Nothing of other agents is in it; so neither is the reason of a pause, which may name one.
    """
    return OwnCampaigns(
        campaigns=[
            OwnCampaign(rounds=spec_json["rounds"], **dict(zip(_COLUMNS, facts, strict=True)))
            for spec_json, *facts in await database.ask(_OWN, agent=agent_id)
        ]
    )
