"""Evaluations from their tasks to what follows of them."""

from sqlalchemy import select

from coordinator.database.objects import Objects
from coordinator.database.prepared import given
from coordinator.database.tables import AdapterRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.evaluation import benchmarks, held_out
from coordinator.engine.evaluation.benchmark_values import record_values
from coordinator.engine.evaluation.deciding import choose_best, count_towards_stop, undecided
from coordinator.engine.evaluation.metric_rows import remove_metrics
from shared.events import EventType
from shared.states import CampaignState, TaskKind

_EVALUATING = Objects(select(AdapterRow).where(AdapterRow.campaign_id == given("campaign"), AdapterRow.evaluating))
_KINDS = (TaskKind.EVALUATE, TaskKind.BENCHMARK)


async def begin(tx: CampaignTx, adapter_number: int, *, is_last: bool = False, again: bool = False) -> None:
    """Add the evaluations of a global adapter, by the schedule of the campaign file.

    Args:
        tx: the campaign's transaction.
        adapter_number: the adapter.
        is_last: whether the campaign ends with it, whatever its number: then it is evaluated as the last one.
        again: whether it was evaluated before, in vain or not by all that the schedule has of the last one.
    """
    evaluation = tx.spec.evaluation
    number = tx.spec.rounds if is_last else adapter_number
    on_rows = evaluation.on_held_out_rows(number, tx.spec.rounds)
    by_benchmarks = evaluation.by_benchmarks(number, tx.spec.rounds)
    if not (on_rows or by_benchmarks):
        return
    adapter = await tx.adapter(adapter_number)
    has_tasks = on_rows and await held_out.add_tasks(tx, adapter_number, again=again)
    if by_benchmarks:
        await benchmarks.add_tasks(tx, adapter)
    # also without a task: what nobody can measure is said when the evaluation is recorded
    adapter.evaluating = adapter.evaluating or has_tasks or by_benchmarks or evaluation.asks_for_a_decision


async def complete_last(tx: CampaignTx) -> None:
    """Have the newest adapter, with which the campaign ends early, evaluated by all that the schedule has of the last
    one and that it has not had."""
    spec, number = tx.spec, tx.campaign.rounds_closed
    adapter = await tx.adapter(number)
    had = (spec.evaluates(number), spec.benchmarks(number))
    is_complete = had == (spec.evaluates(spec.rounds), spec.benchmarks(spec.rounds))
    if not (is_complete and (adapter.evaluating or adapter.metrics)):
        await begin(tx, number, is_last=True, again=True)


async def collect(tx: CampaignTx) -> list[TaskRow]:
    """Record the metrics of every adapter whose evaluations have all ended. Returns the tasks still under way."""
    # sorted here: with ORDER BY, SQLite scans all adapters
    evaluating = sorted(await _EVALUATING.all(tx.session, campaign=tx.campaign.id), key=lambda adapter: adapter.number)
    if not evaluating:
        return []
    kinds = _KINDS if tx.spec.evaluation.benchmarks else (TaskKind.EVALUATE,)
    for adapter in evaluating:
        if _has_benchmarks(tx, adapter):
            await benchmarks.add_tasks(tx, adapter)
    live = [task for kind in kinds for task in await tx.live_tasks(kind)]
    awaited = {task.round for task in live}
    for adapter in evaluating:
        if adapter.number not in awaited:
            adapter.evaluating = False
            await _record(tx, adapter)
    return live


async def still_waits(tx: CampaignTx, adapter_number: int | None = None) -> bool:
    """Whether the campaign waits for evaluations. Those that have had the time of a round are ended; what is a
    benchmark then runs at another agent, as long as there is one that has not tried.

    adapter_number: only for those of this adapter.
    """
    while tasks := [task for task in await collect(tx) if adapter_number in (None, task.round)]:
        since = max(tx.campaign.resumed_at, *(task.created_at for task in tasks))
        deadline = tx.after(since, tx.spec.deadline.round_s)
        if tx.now < deadline:
            tx.reschedule_at(deadline)
            return True
        await tx.cancel_tasks(tasks)
    return False


async def retry_undecided(tx: CampaignTx) -> None:
    """Evaluate once more what the campaign decides by, if no adapter has a value of it: it was paused for that."""
    if not tx.spec.evaluation.asks_for_a_decision:
        return
    newest = next(n for n in range(tx.campaign.rounds_closed, -1, -1) if tx.spec.evaluates(n) or tx.spec.benchmarks(n))
    adapter = await tx.adapter(newest)
    if not adapter.evaluating and await undecided(tx, adapter):
        await begin(tx, newest, again=True)


def _has_benchmarks(tx: CampaignTx, adapter: AdapterRow) -> bool:
    """Whether benchmarks were asked of an adapter: by the schedule, or because the campaign ends with it."""
    number = tx.spec.rounds if adapter.number == tx.campaign.ends_after else adapter.number
    return tx.spec.benchmarks(number)


async def _record(tx: CampaignTx, adapter: AdapterRow) -> None:
    """Record an adapter's metrics, and decide by them. Pauses the campaign if it decides by what nobody measures."""
    if adapter.metrics:  # of an evaluation before this one
        await remove_metrics(tx, adapter.number, adapter.metrics)
    means = await held_out.record_means(tx, adapter)
    values: dict[str, float] = {}
    not_run: dict[str, str] = {}
    if _has_benchmarks(tx, adapter):
        values, not_run = await record_values(tx, adapter)
    adapter.metrics = means | values
    if means or values or not_run:
        n_clients = adapter.n_clients or 0
        tx.record(
            EventType.ADAPTER_EVALUATED,
            adapter=adapter.number,
            metrics=adapter.metrics,
            clients=n_clients,
            not_run=not_run,
        )
    missing = await undecided(tx, adapter) if tx.campaign.state is CampaignState.RUNNING else []
    await choose_best(tx, adapter)
    await count_towards_stop(tx, adapter)
    if missing:
        why = "; ".join(f"{name}: {reason}" for name, reason in not_run.items()) or "no client evaluates on its rows"
        decides = f"the campaign decides by {' and '.join(missing)}, which adapter {adapter.number} does not have"
        await tx.pause(f"{decides} ({why}); mend that and resume the campaign, or start one that decides otherwise")
