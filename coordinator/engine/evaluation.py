"""Held-out evaluation of global adapters: hand it out, and put the clients' numbers together."""

from sqlalchemy import select

from coordinator.clock import new_id
from coordinator.engine.step import Step
from coordinator.tables import AdapterRow, MetricRow, TaskRow
from shared.states import TaskKind


async def add_evaluations(step: Step, adapter_number: int) -> None:
    """Have every client with held-out rows evaluate a global adapter, but for those set aside in the next round: the
    adapter's loss would wait for them."""
    willing = [
        client
        for client in (await step.clients()).values()
        if client.n_held_out and (client.set_aside_until or 0) <= adapter_number
    ]
    for client in willing:
        step.add_task(TaskKind.EVALUATE, client.agent_id, adapter_number)
    if willing:
        (await step.session.get_one(AdapterRow, (step.campaign.id, adapter_number))).evaluating = True


async def settle_evaluations(step: Step) -> list[TaskRow]:
    """Give every adapter whose evaluations have all ended its loss; the evaluations that are still under way."""
    query = select(AdapterRow).where(AdapterRow.campaign_id == step.campaign.id, AdapterRow.evaluating)
    # in order here: asked to, SQLite goes through all adapters in their order
    evaluating = sorted((await step.session.scalars(query)).all(), key=lambda adapter: adapter.number)
    if not evaluating:
        return []
    live = await step.live_tasks(TaskKind.EVALUATE)
    waited_for = {task.round for task in live}
    for adapter in evaluating:
        if adapter.number not in waited_for:
            adapter.evaluating = False
            await _settle(step, adapter)
    return live


async def _settle(step: Step, adapter: AdapterRow) -> None:
    """held_out_loss = Σ loss_k n_k / Σ n_k: the loss on all that is held out together. n_k: a client's tokens or, for
    dpo, whose losses are means over pairs, its pairs; there the accuracy likewise, and the margin where all tell it."""
    dpo = step.campaign.spec.kind == "dpo"
    size = "held_out_pairs" if dpo else "held_out_tokens"
    query = select(MetricRow).where(
        MetricRow.campaign_id == step.campaign.id,
        MetricRow.round == adapter.number,
        MetricRow.name.in_(("held_out_loss", "held_out_accuracy", "held_out_margin", size)),
        MetricRow.client_number.is_not(None),
    )
    by_client: dict[int, dict[str, float]] = {}
    for metric in (await step.session.scalars(query.order_by(MetricRow.client_number))).all():
        assert metric.client_number is not None
        by_client.setdefault(metric.client_number, {})[metric.name] = metric.value
    total = sum(each[size] for each in by_client.values())
    if not total:
        return
    # divided first: a client's finite loss times its tokens may be infinite
    loss = sum(each["held_out_loss"] * (each[size] / total) for each in by_client.values())
    adapter.held_out_loss = loss
    add_metric(step, adapter.number, "held_out_loss", loss)
    if dpo:  # divided last: a share stays at most 1
        right = sum(each["held_out_accuracy"] * each[size] for each in by_client.values())
        add_metric(step, adapter.number, "held_out_accuracy", right / total)
        if all("held_out_margin" in each for each in by_client.values()):  # agents of protocol version 1 tell none
            margin = sum(each["held_out_margin"] * (each[size] / total) for each in by_client.values())
            add_metric(step, adapter.number, "held_out_margin", margin)
    best = step.campaign.best_adapter
    best_row = await step.session.get(AdapterRow, (step.campaign.id, best)) if best is not None else None
    if best_row is None or best_row.held_out_loss is None or loss < best_row.held_out_loss:
        step.campaign.best_adapter = adapter.number
    step.record("adapter-evaluated", adapter=adapter.number, held_out_loss=loss, clients=len(by_client))


def add_metric(step: Step, round_number: int, name: str, value: float) -> None:
    """Write down a number of the whole round."""
    step.session.add(
        MetricRow(id=new_id(step.now), campaign_id=step.campaign.id, round=round_number, name=name, value=value)
    )
