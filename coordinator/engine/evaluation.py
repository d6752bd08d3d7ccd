"""Held-out evaluation of global adapters: hand it out, and put the clients' numbers together."""

from sqlalchemy import select

from coordinator.database.ids import new_id
from coordinator.database.tables import AdapterRow, MetricRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from shared.events import EventType
from shared.states import TaskKind


async def add_evaluations(tx: CampaignTx, adapter_number: int) -> None:
    """Have every client with held-out rows evaluate a global adapter, but for those set aside in the next round: the
    adapter's loss would wait for them."""
    willing = [
        client
        for client in (await tx.clients()).values()
        if client.n_held_out and (client.set_aside_until or 0) <= adapter_number
    ]
    for client in willing:
        tx.add_task(TaskKind.EVALUATE, client.agent_id, adapter_number)
    if willing:
        (await tx.session.get_one(AdapterRow, (tx.campaign.id, adapter_number))).evaluating = True


async def collect_evaluations(tx: CampaignTx) -> list[TaskRow]:
    """Give every adapter whose evaluations have all ended its loss; the evaluations that are still under way."""
    query = select(AdapterRow).where(AdapterRow.campaign_id == tx.campaign.id, AdapterRow.evaluating)
    # in order here: asked to, SQLite goes through all adapters in their order
    evaluating = sorted((await tx.session.scalars(query)).all(), key=lambda adapter: adapter.number)
    if not evaluating:
        return []
    live = await tx.live_tasks(TaskKind.EVALUATE)
    waited_for = {task.round for task in live}
    for adapter in evaluating:
        if adapter.number not in waited_for:
            adapter.evaluating = False
            await _settle(tx, adapter)
    return live


async def _settle(tx: CampaignTx, adapter: AdapterRow) -> None:
    """held_out_loss = Σ loss_k n_k / Σ n_k: the loss on all that is held out together. n_k: a client's tokens or, for
    dpo, whose losses are means over pairs, its pairs; there the accuracy likewise, and the margin where all tell it."""
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
    # divided first: a client's finite loss times its tokens may be infinite
    loss = sum(each["held_out_loss"] * (each[size] / total) for each in by_client.values())
    adapter.held_out_loss = loss
    add_metric(tx, adapter.number, "held_out_loss", loss)
    if dpo:  # divided last: a share stays at most 1
        right = sum(each["held_out_accuracy"] * each[size] for each in by_client.values())
        add_metric(tx, adapter.number, "held_out_accuracy", right / total)
        margin = sum(each["held_out_margin"] * (each[size] / total) for each in by_client.values())
        add_metric(tx, adapter.number, "held_out_margin", margin)
    best = tx.campaign.best_adapter
    best_row = await tx.session.get(AdapterRow, (tx.campaign.id, best)) if best is not None else None
    if best_row is None or best_row.held_out_loss is None or loss < best_row.held_out_loss:
        tx.campaign.best_adapter = adapter.number
    tx.record(EventType.ADAPTER_EVALUATED, adapter=adapter.number, held_out_loss=loss, clients=len(by_client))


def add_metric(tx: CampaignTx, round_number: int, name: str, value: float) -> None:
    """Write down a number of the whole round."""
    tx.session.add(MetricRow(id=new_id(tx.now), campaign_id=tx.campaign.id, round=round_number, name=name, value=value))
