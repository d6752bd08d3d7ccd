"""The number of a campaign's clients, stored when it changes: each lease of a train task says it without counting."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AgentRow, CampaignRow, ParticipantRow
from shared.states import AgentState, ParticipantState

_COUNT = Prepared(
    select(func.count())
    .select_from(ParticipantRow)
    .join(AgentRow, AgentRow.id == ParticipantRow.agent_id)
    .where(
        ParticipantRow.campaign_id == given("campaign"),
        ParticipantRow.client_number.is_not(None),
        ParticipantRow.state != ParticipantState.LEFT,
        AgentRow.state == AgentState.ACTIVE,
    )
)


async def recount_clients(session: AsyncSession, campaign: CampaignRow) -> None:
    """Count the clients whose agents are not revoked and whose owners have not left, after that has changed.

    campaign: locked.
    """
    [(campaign.n_clients,)] = await _COUNT.rows(session, campaign=campaign.id)
