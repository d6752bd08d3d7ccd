"""Which of a campaign's failed tasks still matter: those whose cause was mended are history."""

from collections.abc import Sequence

from shared.states import ParticipantState, TaskKind
from shared.wire.campaigns import CampaignDetail, ParticipantView, TaskView


def current_failures(
    campaign: CampaignDetail, failed: Sequence[TaskView], open_tasks: Sequence[TaskView]
) -> list[TaskView]:
    """The failed tasks whose agent neither does such a task again nor has got over the failure, in their order.

    Of a campaign that is over, only evaluations and the newest adapter's benchmarks: updates that failed no longer
    matter, a metric that is missing does.

    Args:
        campaign: the campaign.
        failed: its failed tasks.
        open_tasks: those of its tasks that are not over.
    """
    parts = {each.agent_id: each for each in campaign.participants}
    again = {(task.agent_id, task.kind) for task in open_tasks}
    return [
        task
        for task in failed
        if task.failure is not None
        and (task.agent_id, task.kind) not in again
        and _matters(task, campaign, parts.get(task.agent_id))
    ]


def is_told(task: TaskView, campaign: CampaignDetail) -> bool:
    """Whether the reason of a participant tells the failure already."""
    told = {each.reason for each in campaign.participants if each.agent_id == task.agent_id}
    return task.failure is not None and task.failure.message in told


def _matters(task: TaskView, campaign: CampaignDetail, part: ParticipantView | None) -> bool:
    if task.kind is TaskKind.EVALUATE:
        return True
    if task.kind is TaskKind.BENCHMARK:  # of earlier adapters, what did not run is told with their values
        return (task.round or 0) >= campaign.rounds_closed
    if campaign.state.is_final or part is None or part.revoked:
        return False
    match task.kind:
        case TaskKind.PREPARE:
            return part.state is ParticipantState.FAILED
        case TaskKind.INIT:
            return campaign.rounds_closed == 0
        case _:
            return part.failures_in_a_row > 0 or (task.round or 0) > campaign.rounds_closed
