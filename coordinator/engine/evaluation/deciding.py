"""What is decided by the metrics of adapters: which is the best, and whether the campaign stops.

Each evaluated adapter keeps how the stop stood after it, so that a decision reads one earlier adapter, however many
there are, and a rollback restores it.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import AdapterRow, CampaignRow
from coordinator.engine.campaign_tx import CampaignTx
from shared.campaign.measured import metrics_of
from shared.campaign.spec import CampaignSpec
from shared.metrics import Metric, Origin


def metric_of(spec: CampaignSpec, name: str) -> Metric:
    """A metric that the campaign decides by."""
    return metrics_of(spec.evaluation, spec.kind)[name]


async def choose_best(tx: CampaignTx, adapter: AdapterRow) -> None:
    """Make an adapter the campaign's best if it is: by ``evaluation.best``, of equals the earlier."""
    metric = metric_of(tx.spec, tx.spec.evaluation.best)
    if metric.name not in adapter.metrics:
        return
    number = tx.campaign.best_adapter
    known = await tx.session.get(AdapterRow, (tx.campaign.id, number)) if number is not None else None
    if known is None or _goes_before(metric, adapter, known):
        tx.campaign.best_adapter = adapter.number


def best_of(spec: CampaignSpec, adapters: Iterable[AdapterRow]) -> int | None:
    """The number of the best of these adapters; None if none was evaluated by ``evaluation.best``, or the plug-in is
    missing that says which values of it are better."""
    metric = metrics_of(spec.evaluation, spec.kind).get(spec.evaluation.best)
    if metric is None:
        return None
    best: AdapterRow | None = None
    for adapter in adapters:
        if metric.name in adapter.metrics and (best is None or _goes_before(metric, adapter, best)):
            best = adapter
    return best.number if best is not None else None


def _goes_before(metric: Metric, adapter: AdapterRow, other: AdapterRow) -> bool:
    value, than = adapter.metrics[metric.name], other.metrics.get(metric.name)
    return than is None or metric.is_better(value, than) or (value == than and adapter.number < other.number)


async def count_towards_stop(tx: CampaignTx, adapter: AdapterRow) -> None:
    """Note how the stop stands after an evaluated adapter: the best so far, and the evaluations since without one that
    is better by more than ``min_delta``. An adapter without the metric does not count."""
    rule, name = tx.spec.evaluation.stop, tx.spec.evaluation.stop_metric
    if rule is None or name is None or name not in adapter.metrics:
        return
    before = await last_counted(tx.session, tx.campaign, before=adapter.number)
    best = await tx.session.get(AdapterRow, (tx.campaign.id, before.stop_best)) if before is not None else None
    metric = metric_of(tx.spec, name)
    if before is None or best is None or metric.is_better(adapter.metrics[name], best.metrics[name], rule.min_delta):
        adapter.stop_best, adapter.stop_waited = adapter.number, 0
    else:
        adapter.stop_best, adapter.stop_waited = before.stop_best, (before.stop_waited or 0) + 1


async def why_stop(tx: CampaignTx) -> str | None:
    """Why the campaign stops now, in words; None if it goes on."""
    rule, name = tx.spec.evaluation.stop, tx.spec.evaluation.stop_metric
    if rule is None or name is None:
        return None
    adapter = await tx.session.get(AdapterRow, (tx.campaign.id, tx.campaign.rounds_closed))
    if adapter is None or adapter.stop_waited is None or adapter.stop_waited < rule.patience:
        return None
    metric = metric_of(tx.spec, name)
    best = await tx.session.get_one(AdapterRow, (tx.campaign.id, adapter.stop_best))
    than = f" by more than {rule.min_delta:g}" if rule.min_delta else ""
    n = f"{adapter.stop_waited} evaluation{'' if adapter.stop_waited == 1 else 's'}"
    return (
        f"stopped after round {adapter.number} of {tx.spec.rounds}: {metric.name} has not improved{than} in {n}, since "
        f"adapter {best.number} ({metric.with_unit(best.metrics[metric.name])})"
    )


async def undecided(tx: CampaignTx, adapter: AdapterRow) -> list[str]:
    """The metrics that the campaign file decides by and that no adapter has had yet, this one neither."""
    evaluation = tx.spec.evaluation
    names = evaluation.decides_by if evaluation.asks_for_a_decision else []
    due = {Origin.EVALUATION: tx.spec.evaluates(adapter.number), Origin.BENCHMARK: tx.spec.benchmarks(adapter.number)}
    missing = [name for name in names if name not in adapter.metrics and due[metric_of(tx.spec, name).origin]]
    if not missing:
        return []
    has_best = tx.campaign.best_adapter is not None
    has_stop = await last_counted(tx.session, tx.campaign, before=adapter.number) is not None
    return [
        name
        for name in missing
        if (name == evaluation.best and not has_best) or (name == evaluation.stop_metric and not has_stop)
    ]


async def last_counted(session: AsyncSession, campaign: CampaignRow, before: int | None = None) -> AdapterRow | None:
    """The newest adapter that counts towards the stop; None if none does. before: only adapters below this number."""
    query = select(AdapterRow).where(AdapterRow.campaign_id == campaign.id, AdapterRow.stop_waited.is_not(None))
    if before is not None:
        query = query.where(AdapterRow.number < before)
    found: AdapterRow | None = await session.scalar(query.order_by(AdapterRow.number.desc()).limit(1))
    return found
