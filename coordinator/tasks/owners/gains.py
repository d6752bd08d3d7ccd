"""What owners gain by adapters, as far as they tell it: three losses for each adapter and owner, the latest ones."""

from sqlalchemy import select

from coordinator.database.ids import new_id
from coordinator.database.tables import AdapterRow, GainRow
from coordinator.errors import NotFound
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.tasks.transfer.blob_access import took_part
from shared.wire.gains import GainRequest


async def take(services: Services, campaign_id: str, agent_id: str, sha256: str, gain: GainRequest) -> None:
    """Store what an owner gains by the adapter of a digest. Repeating it changes nothing.

    Raises NotFound for a campaign in which the agent was no client, and for an adapter that the campaign does not have
    in its present history.
    """
    async with services.database.write("gain") as session:
        await lock_campaign(session, campaign_id)
        if await session.scalar(took_part(agent_id, campaign_id)) is None:
            raise NotFound("campaign", campaign_id)
        of_campaign = AdapterRow.campaign_id == campaign_id
        # two rounds may end with equal bytes: what is told counts for each of them
        numbers = await session.scalars(select(AdapterRow.number).where(of_campaign, AdapterRow.sha256 == sha256))
        found = numbers.all()
        if not found:
            raise NotFound("adapter", sha256)
        now, losses = services.clock.now(), (gain.base, gain.alone, gain.adapter)
        of_agent = (GainRow.campaign_id == campaign_id, GainRow.agent_id == agent_id, GainRow.number.in_(found))
        rows = {row.number: row for row in (await session.scalars(select(GainRow).where(*of_agent))).all()}
        for number in found:
            row = rows.get(number)
            if row is None:
                row = GainRow(id=new_id(now), campaign_id=campaign_id, agent_id=agent_id, number=number)
                session.add(row)
            elif (row.base, row.alone, row.adapter) == losses:
                continue
            row.base, row.alone, row.adapter = losses
            row.at = now
