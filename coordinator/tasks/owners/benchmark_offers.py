"""The benchmarks that agents offer to run, as their owners allow."""

from coordinator.errors import Invalid
from coordinator.services import Services
from coordinator.tasks.owners.parts import lock_part
from shared.wire.benchmarks import BenchmarkOffer


async def take(services: Services, campaign_id: str, agent_id: str, offer: BenchmarkOffer) -> None:
    """Note what an agent offers to run in a campaign, in place of what it offered before.

    Raises NotFound, IllegalMove if the campaign is over, and Invalid for benchmarks that it does not name.
    """
    async with services.database.write("benchmarks") as session:
        campaign, participant = await lock_part(session, campaign_id, agent_id, "offered benchmarks")
        named = campaign.spec.evaluation.benchmarks
        if unknown := [each.name for each in offer.benchmarks if each.name not in named]:
            raise Invalid(("benchmarks", f"the campaign does not name {', '.join(unknown)}"))
        participant.offers = {each.name: each.model_dump(exclude={"name"}) for each in offer.benchmarks}
