"""What the owner's settings refuse of each task, by what was done before."""

import json
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from datetime import timedelta

from agent.configuration.policy import PolicySettings
from agent.configuration.settings import ComputeSettings
from agent.policy.amounts import passes
from agent.policy.refusals import Refusal
from agent.record.bookings import Bookings, Totals, Work
from agent.record.campaigns import KnownCampaign, Prepared
from shared.wire.base import BlobRef
from shared.wire.tasks.assignments import Assignment, BenchmarkAssignment, EvaluateAssignment, TrainAssignment

CAMPAIGN_DAYS = 30
"""The days over which ``policy.max_campaigns`` counts."""


def download_refusals(policy: PolicySettings, task: Assignment) -> Iterator[Refusal]:
    """What the settings refuse of the files that a task names, in the cache or not."""
    if not isinstance(task, TrainAssignment | EvaluateAssignment | BenchmarkAssignment):
        return
    files: list[BlobRef | None] = [task.adapter]
    files += [task.reference] if not isinstance(task, BenchmarkAssignment) else []
    files += [task.broadcast] if isinstance(task, TrainAssignment) else []
    n_bytes = sum(file.n_bytes for file in files if file is not None)
    if n_bytes > policy.max_download_bytes:
        asked = f"{n_bytes:,} bytes are to be downloaded"
        yield Refusal("policy.max_download_bytes", f"{policy.max_download_bytes:,}", asked)


def company_refusals(policy: PolicySettings, task: TrainAssignment) -> Iterator[Refusal]:
    """What the settings refuse of a round with so few others."""
    if task.n_clients < policy.min_participants:
        asked = f"the campaign has {task.n_clients} client{'' if task.n_clients == 1 else 's'}"
        yield Refusal("policy.min_participants", str(policy.min_participants), asked)
    if task.n_in_round < policy.min_in_round:
        asked = f"round {task.round} has {task.n_in_round} client{'' if task.n_in_round == 1 else 's'}"
        yield Refusal("policy.min_in_round", str(policy.min_in_round), asked)


def rank_refusals(compute: ComputeSettings, rank: int) -> Iterator[Refusal]:
    """What a largest rank refuses that was lowered after the agent prepared."""
    if compute.max_lora_rank is not None and rank > compute.max_lora_rank:
        asked = f"this agent prepared to train rank {rank}"
        yield Refusal("compute.max_lora_rank", str(compute.max_lora_rank), asked)


def training_refusals(
    policy: PolicySettings, bookings: Bookings, known: KnownCampaign, work: Work
) -> Iterator[Refusal]:
    """What the settings refuse of a training, with what was booked before.

    Args:
        policy: the owner's.
        bookings: what was done.
        known: the campaign, prepared and bound to its rows.
        work: the training, which is not booked yet.
    """
    assert known.prepared is not None
    assert known.pool is not None
    yield from total_refusals(policy, bookings.of_campaign(known.id), known.prepared, work.n_rows)
    yield from quota_refusals(policy, bookings, known.id, [known.pool])


def total_refusals(policy: PolicySettings, so_far: Totals, prepared: Prepared, n_rows: int) -> Iterator[Refusal]:
    """What the settings refuse of one more training for a campaign.

    Args:
        policy: the owner's.
        so_far: what was done for the campaign.
        prepared: what its preparation found.
        n_rows: rows that the training uses, each as often as it is.
    """
    if policy.max_rounds is not None and so_far.n_trainings >= policy.max_rounds:
        asked = f"it is training {so_far.n_trainings + 1} for this campaign"
        yield Refusal("policy.max_rounds", str(policy.max_rounds), asked)
    epochs = (so_far.n_rows + n_rows) / max(1, prepared.n_train)
    if policy.max_epochs is not None and epochs > policy.max_epochs:
        asked = f"{passes(epochs)} over {prepared.n_train} rows would be made for this campaign"
        yield Refusal("policy.max_epochs", f"{policy.max_epochs:g}", asked)


def history_refusals(policy: PolicySettings, histories: AbstractSet[int], history: int) -> Iterator[Refusal]:
    """What the settings refuse after rollbacks: each lets a coordinator ask for the same rounds again.

    Args:
        policy: the owner's.
        histories: those in which something was done.
        history: the one that is asked for.
    """
    n_rollbacks = len(histories - {history})
    if n_rollbacks > policy.max_rollbacks:
        asked = f"the campaign was rolled back or restored {n_rollbacks} times"
        yield Refusal("policy.max_rollbacks", str(policy.max_rollbacks), asked)


def quota_refusals(
    policy: PolicySettings, bookings: Bookings, campaign_id: str, pools: Iterable[int]
) -> Iterator[Refusal]:
    """What ``max_campaigns`` refuses of a campaign that would use the rows of these pools."""
    within = timedelta(days=CAMPAIGN_DAYS)
    campaigns = {campaign_id}.union(*(bookings.campaigns_of(pool, within) for pool in pools))
    if policy.max_campaigns is not None and len(campaigns) > policy.max_campaigns:
        asked = f"it is campaign {len(campaigns)} in {CAMPAIGN_DAYS} days that uses these rows"
        yield Refusal("policy.max_campaigns", str(policy.max_campaigns), asked)


def benchmark_refusals(policy: PolicySettings, names: Iterable[str]) -> Iterator[Refusal]:
    """What the settings refuse of public benchmarks, by name."""
    allowed = policy.benchmarks
    if refused := [name for name in names if name not in allowed]:
        value = json.dumps(policy.suites)
        yield Refusal("policy.suites", value, f"{', '.join(refused)} would be run", "to allow it, add it there")
