"""Names the agents at work whose owners report no live losses."""

from collections.abc import Sequence

from fedloom.cli import output
from shared.wire.campaigns import CampaignDetail, TaskView
from shared.wire.tasks.leases import Phase

NAMES_SHOWN = 5


def withheld_live(campaign: CampaignDetail, tasks: Sequence[TaskView]) -> str:
    """A line that names the agents whose owners withhold live losses. Empty if there are none."""
    levels = {each.agent_id: each.report for each in campaign.participants}
    silent = {
        task.agent_name
        for task in tasks
        if task.progress is not None
        and task.progress.phase is Phase.TRAINING
        and task.progress.loss is None
        and levels.get(task.agent_id) not in (None, "live")
    }
    if not silent:
        return ""
    owner = "its owner" if len(silent) == 1 else "their owners"
    return f"losses of steps withheld by {owner}: {output.some_of(sorted(silent), NAMES_SHOWN)}"
