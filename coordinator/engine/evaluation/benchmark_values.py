"""What benchmarks gave of a global adapter, with the means over a suite, or why they gave nothing."""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import Any

from coordinator.database.tables import AdapterRow, ParticipantRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.evaluation.metric_rows import add_metric
from shared.benchmarks import SuiteMean
from shared.states import TaskKind, TaskState

_NO_AGENT = "no agent of the campaign runs it: its owner names it in policy.suites of agent.toml, and has its data"
_OTHER_ITEMS = "no agent has the items that earlier adapters were asked"
_CANCELLED = "it did not end in time, or its agent left"


async def record_values(tx: CampaignTx, adapter: AdapterRow) -> tuple[dict[str, float], dict[str, str]]:
    """Record what the benchmarks of an adapter gave.

    Returns the values by metric, and why there is none by benchmark.
    """
    tasks = await tx.tasks(TaskKind.BENCHMARK, adapter.number)
    agents = {each.agent_id: each for each in await tx.participants()}
    values: dict[str, float] = {}
    facts: dict[str, Any] = {}
    for name in tx.spec.evaluation.benchmarks:
        gave = ((task, score) for task, score in scores_of(tasks) if score["name"] == name and score["values"])
        if (found := next(gave, None)) is None:
            facts[name] = {"not_run": _why_none(tx, name, tasks, [*agents.values()])}
            continue
        task, score = found
        values |= score["values"]
        offer = agents[task.agent_id].offers.get(name, {})
        facts[name] = {
            "agent_name": agents[task.agent_id].agent_name,
            **{key: score[key] for key in ("n", "n_asked", "items_sha256")},
            "n_published": offer.get("n_published", score["n_asked"]),
        }
    values |= _means(tx.spec.evaluation.means, values)
    adapter.benchmarks = facts
    for name, value in values.items():
        add_metric(tx, adapter.number, name, value)
    return values, {name: each["not_run"] for name, each in facts.items() if "not_run" in each}


def scores_of(tasks: Iterable[TaskRow]) -> Iterable[tuple[TaskRow, dict[str, Any]]]:
    """The scores of tasks that are done, oldest first."""
    return ((task, score) for task in tasks if task.state is TaskState.DONE for score in (task.result or {})["scores"])


def _why_none(tx: CampaignTx, name: str, tasks: Sequence[TaskRow], agents: Sequence[ParticipantRow]) -> str:
    """Why a benchmark gave no number: what the last agent said, or why none was asked."""
    for task in reversed(tasks):
        if name not in (task.benchmarks or ()):
            continue
        if task.state is TaskState.DONE:
            return next(str(score["not_run"]) for score in (task.result or {})["scores"] if score["name"] == name)
        return str(task.failure["message"]) if task.failure else _CANCELLED
    is_settled = name in tx.campaign.benchmark_items
    return _OTHER_ITEMS if is_settled and any(name in agent.offers for agent in agents) else _NO_AGENT


def _means(means: Sequence[SuiteMean], values: Mapping[str, float]) -> dict[str, float]:
    """The means of which every benchmark has a value."""
    return {
        mean.metric.name: fsum(values[each] for each in mean.over) / len(mean.over)
        for mean in means
        if values.keys() >= set(mean.over)
    }
