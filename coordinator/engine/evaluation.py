"""Held-out evaluation of global adapters: adds the tasks, and combines the clients' metrics."""

from sqlalchemy import select

from coordinator.database.ids import new_id
from coordinator.database.tables import AdapterRow, MetricRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from shared import kinds
from shared.events import EventType
from shared.metrics import HELD_OUT_COUNTS, HELD_OUT_LOSS, Origin
from shared.states import TaskKind


async def add_evaluations(tx: CampaignTx, adapter_number: int) -> None:
    """Add an evaluation of a global adapter for every client with held-out rows.

    Clients set aside in the next round are skipped, because the adapter's loss would wait for them; clients whose
    owners report nothing, or want more rows behind a number, would refuse.
    """
    evaluators = [
        client
        for client in (await tx.clients()).values()
        if client.n_held_out and client.evaluates is not False and (client.set_aside_until or 0) <= adapter_number
    ]
    for client in evaluators:
        tx.add_task(TaskKind.EVALUATE, client.agent_id, adapter_number)
    if evaluators:
        (await tx.session.get_one(AdapterRow, (tx.campaign.id, adapter_number))).evaluating = True


async def collect_evaluations(tx: CampaignTx) -> list[TaskRow]:
    """Record the loss of every adapter whose evaluations have all ended. Returns the evaluations still under way."""
    query = select(AdapterRow).where(AdapterRow.campaign_id == tx.campaign.id, AdapterRow.evaluating)
    # sorted here: with ORDER BY, SQLite scans all adapters
    evaluating = sorted((await tx.session.scalars(query)).all(), key=lambda adapter: adapter.number)
    if not evaluating:
        return []
    live = await tx.live_tasks(TaskKind.EVALUATE)
    awaited = {task.round for task in live}
    for adapter in evaluating:
        if adapter.number not in awaited:
            adapter.evaluating = False
            await _record_metrics(tx, adapter)
    return live


async def _record_metrics(tx: CampaignTx, adapter: AdapterRow) -> None:
    """Record the means over the clients of an adapter's metrics. Updates the campaign's best adapter."""
    metrics = kinds.find(tx.campaign.spec.kind).metrics_of(Origin.EVALUATION)
    query = select(MetricRow).where(
        MetricRow.campaign_id == tx.campaign.id,
        MetricRow.round == adapter.number,
        MetricRow.name.in_([metric.name for metric in metrics]),
        MetricRow.client_number.is_not(None),
    )
    by_client: dict[int, dict[str, float]] = {}
    for row in (await tx.session.scalars(query.order_by(MetricRow.client_number))).all():
        assert row.client_number is not None
        by_client.setdefault(row.client_number, {})[row.name] = row.value
    if not by_client:
        return
    means: dict[str, float] = {}
    for metric in metrics:
        if metric.weight is None:
            continue
        names = (HELD_OUT_COUNTS[metric.weight], metric.name)
        reported = [(each[names[0]], each[names[1]]) for each in by_client.values() if each.keys() >= set(names)]
        if len(reported) == len(by_client):  # a kind that was upgraded meanwhile may have further metrics
            means[metric.name] = metric.mean(reported)
    over = (len(by_client), max(len(by_client), len(await tx.clients())))  # one that evaluated may have left meanwhile
    adapter.metrics, (adapter.n_clients, adapter.of_clients) = means, over
    for name, value in means.items():
        add_metric(tx, adapter.number, name, value, over)
    best = tx.campaign.best_adapter
    best_row = await tx.session.get(AdapterRow, (tx.campaign.id, best)) if best is not None else None
    known_best = best_row.held_out_loss if best_row is not None else None
    if HELD_OUT_LOSS in means and (known_best is None or means[HELD_OUT_LOSS] < known_best):
        tx.campaign.best_adapter = adapter.number
    tx.record(EventType.ADAPTER_EVALUATED, adapter=adapter.number, metrics=means, clients=len(by_client))


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
