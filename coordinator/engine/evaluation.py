"""Held-out evaluation of global adapters: adds the tasks, and combines the clients' metrics."""

from sqlalchemy import select

from coordinator.database.ids import new_id
from coordinator.database.tables import AdapterRow, MetricRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from shared.events import EventType
from shared.states import TaskKind


async def add_evaluations(tx: CampaignTx, adapter_number: int) -> None:
    """Add an evaluation of a global adapter for every client with held-out rows.

    Clients set aside in the next round are skipped, because the adapter's loss would wait for them.
    """
    evaluators = [
        client
        for client in (await tx.clients()).values()
        if client.n_held_out and (client.set_aside_until or 0) <= adapter_number
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
            await _record_loss(tx, adapter)
    return live


async def _record_loss(tx: CampaignTx, adapter: AdapterRow) -> None:
    """Record an adapter's held-out metrics, each a mean over all held-out rows: Σ m_k n_k / Σ n_k.

    n_k is the number of a client's held-out tokens. For DPO, whose metrics are means over pairs, it is the number of
    its pairs; accuracy and margin are recorded too. Updates the campaign's best adapter.
    """
    dpo = tx.campaign.spec.kind == "dpo"
    size = "held_out_pairs" if dpo else "held_out_tokens"
    query = select(MetricRow).where(
        MetricRow.campaign_id == tx.campaign.id,
        MetricRow.round == adapter.number,
        MetricRow.name.in_(("held_out_loss", "held_out_accuracy", "held_out_margin", size)),
        MetricRow.client_number.is_not(None),
    )
    by_client: dict[int, dict[str, float]] = {}
    for metric in (await tx.session.scalars(query.order_by(MetricRow.client_number))).all():
        assert metric.client_number is not None
        by_client.setdefault(metric.client_number, {})[metric.name] = metric.value
    total = sum(each[size] for each in by_client.values())
    if not total:
        return
    # divide first: a finite loss times the number of tokens may be infinite
    loss = sum(each["held_out_loss"] * (each[size] / total) for each in by_client.values())
    adapter.held_out_loss = loss
    add_metric(tx, adapter.number, "held_out_loss", loss)
    if dpo:  # divide last, so that the accuracy never exceeds 1
        n_correct = sum(each["held_out_accuracy"] * each[size] for each in by_client.values())
        add_metric(tx, adapter.number, "held_out_accuracy", n_correct / total)
        margin = sum(each["held_out_margin"] * (each[size] / total) for each in by_client.values())
        add_metric(tx, adapter.number, "held_out_margin", margin)
    best = tx.campaign.best_adapter
    best_row = await tx.session.get(AdapterRow, (tx.campaign.id, best)) if best is not None else None
    if best_row is None or best_row.held_out_loss is None or loss < best_row.held_out_loss:
        tx.campaign.best_adapter = adapter.number
    tx.record(EventType.ADAPTER_EVALUATED, adapter=adapter.number, held_out_loss=loss, clients=len(by_client))


def add_metric(tx: CampaignTx, round_number: int, name: str, value: float) -> None:
    """Record a metric of the whole round."""
    tx.session.add(MetricRow(id=new_id(tx.now), campaign_id=tx.campaign.id, round=round_number, name=name, value=value))
