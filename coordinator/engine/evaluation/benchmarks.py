"""Benchmarks of a global adapter: which agent runs which, and again at another agent if one fails.

A benchmark gives the same numbers at every agent that has the same items, so each runs at one agent. Its first number
settles the items of a benchmark: agents with others do not run it from then on, as adapters could not be compared.
"""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from coordinator.database.tables import AdapterRow, TaskRow
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.evaluation.benchmark_values import scores_of
from coordinator.engine.participants import Client
from shared.states import TaskKind, TaskState


async def add_tasks(tx: CampaignTx, adapter: AdapterRow) -> None:
    """Have agents run the benchmarks of an adapter that have no number yet and that somebody can still run.

    A task that no agent has taken up in the time of a round goes to others, if they can run all of it.
    """
    tasks = await tx.tasks(TaskKind.BENCHMARK, adapter.number)
    idle = [task for task in tasks if task.state is TaskState.PENDING and tx.now >= _deadline(tx, task)]
    if not (idle or _unsettled(tx, tasks)):
        return
    clients = [client for client in (await tx.clients()).values() if (client.set_aside_until or 0) <= adapter.number]
    tried = _tried(tx, tasks)
    elsewhere = [task for task in idle if all(_able(tx, clients, name, tried) for name in task.benchmarks or ())]
    await tx.cancel_tasks(elsewhere)
    shares = _shared_out(tx, clients, _unsettled(tx, tasks), tried, adapter.number)
    for agent_id, names in shares.items():
        tx.add_task(TaskKind.BENCHMARK, agent_id, adapter.number, benchmarks=names)


def _unsettled(tx: CampaignTx, tasks: Sequence[TaskRow]) -> list[str]:
    """The benchmarks without a number of which no task is under way."""
    has_number = {score["name"] for _, score in scores_of(tasks) if score["values"]}
    under_way = {name for task in tasks if not task.state.is_final for name in task.benchmarks or ()}
    return [name for name in tx.spec.evaluation.benchmarks if name not in has_number | under_way]


def _tried(tx: CampaignTx, tasks: Sequence[TaskRow]) -> set[tuple[str, str]]:
    """Agents with the benchmarks that they had since the campaign was last resumed: they are not asked again."""
    recent = [task for task in tasks if task.created_at >= tx.campaign.resumed_at or not task.state.is_final]
    return {(task.agent_id, name) for task in recent for name in task.benchmarks or ()}


def _shared_out(
    tx: CampaignTx,
    clients: Sequence[Client],
    names: Sequence[str],
    tried: AbstractSet[tuple[str, str]],
    adapter_number: int,
) -> dict[str, list[str]]:
    """The benchmarks of each agent, by its id: as many for one as for another, and of adapters in turn."""
    shares: dict[str, list[str]] = {}
    turn = {client.agent_id: (place - adapter_number) % len(clients) for place, client in enumerate(clients)}
    for name in names:
        if able := _able(tx, clients, name, tried):
            chosen = min(able, key=lambda agent_id: (len(shares.get(agent_id, ())), turn[agent_id]))
            shares.setdefault(chosen, []).append(name)
    return shares


def _able(tx: CampaignTx, clients: Sequence[Client], name: str, tried: AbstractSet[tuple[str, str]]) -> list[str]:
    """The agents that can still run a benchmark, by their ids: all on the same items."""
    items = {
        client.agent_id: client.offers[name]["items_sha256"]
        for client in clients
        if name in client.offers and (client.agent_id, name) not in tried
    }
    if not items:
        return []
    # before a number has settled them, those that most have; of equals those of the first
    asked = tx.campaign.benchmark_items.get(name) or Counter(items.values()).most_common(1)[0][0]
    return [agent_id for agent_id, has in items.items() if has == asked]


def _deadline(tx: CampaignTx, task: TaskRow) -> datetime:
    return tx.after(max(task.created_at, tx.campaign.resumed_at), tx.spec.deadline.round_s)
