"""The benchmarks that agents offer to run, as their owners allow."""

from coordinator.database.tables import ParticipantRow
from coordinator.errors import IllegalMove, Invalid, NotFound
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from shared.wire.benchmarks import BenchmarkOffer


async def take(services: Services, campaign_id: str, agent_id: str, offer: BenchmarkOffer) -> None:
    """Note what an agent offers to run in a campaign, in place of what it offered before.

    Raises NotFound, IllegalMove if the campaign is over, and Invalid for benchmarks that it does not name.
    """
    async with services.database.write("benchmarks") as session:
        campaign = await lock_campaign(session, campaign_id)
        participant = await session.get(ParticipantRow, (campaign_id, agent_id))
        if participant is None:
            raise NotFound("campaign", campaign_id)  # as for one that does not exist: it is not this agent's
        if campaign.state.is_final:
            raise IllegalMove("campaign", campaign.state, "offered benchmarks")
        named = campaign.spec.evaluation.benchmarks
        if unknown := [each.name for each in offer.benchmarks if each.name not in named]:
            raise Invalid(("benchmarks", f"the campaign does not name {', '.join(unknown)}"))
        participant.offers = {each.name: each.model_dump(exclude={"name"}) for each in offer.benchmarks}
