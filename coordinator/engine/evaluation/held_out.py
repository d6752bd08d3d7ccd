"""Evaluation of an adapter on the clients' held-out rows: a task for each client, and the means of its metrics."""

from sqlalchemy import select

from coordinator.database.tables import AdapterRow, MetricRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.evaluation.metric_rows import add_metric
from shared import kinds
from shared.metrics import HELD_OUT_COUNTS, Origin
from shared.states import TaskKind, TaskState


async def add_tasks(tx: CampaignTx, adapter_number: int, *, again: bool = False) -> bool:
    """Have every client with held-out rows evaluate an adapter. Returns whether any does.

    Clients set aside in the next round are skipped, because the adapter's loss would wait for them; clients whose
    owners report nothing, or want more rows behind a number, would refuse.

    Args:
        tx: the campaign's transaction.
        adapter_number: the adapter.
        again: whether it was evaluated before; clients that did it are skipped too.
    """
    before = await tx.tasks(TaskKind.EVALUATE, adapter_number) if again else []
    has_task = {task.agent_id for task in before if task.state is TaskState.DONE or not task.state.is_final}
    evaluators = [
        client
        for client in (await tx.clients()).values()
        if client.n_held_out
        and client.evaluates is not False
        and (client.set_aside_until or 0) <= adapter_number
        and client.agent_id not in has_task
    ]
    for client in evaluators:
        tx.add_task(TaskKind.EVALUATE, client.agent_id, adapter_number)
    return bool(evaluators)


async def record_means(tx: CampaignTx, adapter: AdapterRow) -> dict[str, float]:
    """Record the means over the clients of an adapter's metrics, and return them; {} if no client evaluated it."""
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
        return {}
    means: dict[str, float] = {}
    for metric in metrics:
        if metric.weight is None:
            continue
        names = (HELD_OUT_COUNTS[metric.weight], metric.name)
        reported = [(each[names[0]], each[names[1]]) for each in by_client.values() if each.keys() >= set(names)]
        if len(reported) == len(by_client):  # a kind that was upgraded meanwhile may have further metrics
            means[metric.name] = metric.mean(reported)
    over = (len(by_client), max(len(by_client), len(await tx.clients())))  # one that evaluated may have left meanwhile
    adapter.n_clients, adapter.of_clients = over
    for name, value in means.items():
        add_metric(tx, adapter.number, name, value, over)
    return means
