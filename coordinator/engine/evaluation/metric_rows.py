"""Metrics of a whole round, or of a global adapter, as rows."""

from collections.abc import Collection

from sqlalchemy import delete

from coordinator.database.ids import new_id
from coordinator.database.tables import MetricRow
from coordinator.engine.campaign_tx import CampaignTx


def add_metric(
    tx: CampaignTx, round_number: int, name: str, value: float, clients: tuple[int, int] | None = None
) -> None:
    """Record a metric of the whole round.

    Args:
        tx: the campaign's transaction.
        round_number: the round, or the adapter.
        name: the metric.
        value: its value.
        clients: how many clients' values a mean is over, and how many took part; None for what is no mean.
    """
    n_clients, of_clients = clients or (None, None)
    tx.session.add(
        MetricRow(
            id=new_id(tx.now),
            campaign_id=tx.campaign.id,
            round=round_number,
            name=name,
            value=value,
            n_clients=n_clients,
            of_clients=of_clients,
            at=tx.now,
        )
    )


async def remove_metrics(tx: CampaignTx, round_number: int, names: Collection[str]) -> None:
    """Remove metrics of the whole round, which are recorded anew; clients' own values stay.

    Args:
        tx: the campaign's transaction.
        round_number: the round, or the adapter.
        names: the metrics.
    """
    of_round = (MetricRow.campaign_id == tx.campaign.id, MetricRow.round == round_number)
    is_named = (MetricRow.name.in_(names), MetricRow.client_number.is_(None))
    await tx.session.execute(delete(MetricRow).where(*of_round, *is_named))
