"""How the rule that ends a campaign early stands, for people."""

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import AdapterRow, CampaignRow
from coordinator.engine.evaluation.deciding import last_counted
from shared.wire.campaigns import StopView


async def stop_view(session: AsyncSession, campaign: CampaignRow) -> StopView | None:
    """What the engine noted at the newest adapter that counts; None without the rule, or before there is one."""
    name = campaign.spec.evaluation.stop_metric
    if name is None or (newest := await last_counted(session, campaign)) is None:
        return None
    best = await session.get_one(AdapterRow, (campaign.id, newest.stop_best))
    return StopView(
        metric=name, best_adapter=best.number, best_value=best.metrics[name], waited=newest.stop_waited or 0
    )
