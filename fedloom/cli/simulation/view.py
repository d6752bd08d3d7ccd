"""Progress of a simulation: a bar with rounds, losses and time left on a terminal, one line a round in a pipe."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.campaign.page import done_of_total
from fedloom.measured import courses, held_out_by_round
from shared.states import TaskState
from shared.wire.campaigns import CampaignDetail, TaskView

if TYPE_CHECKING:
    from fedloom.simulation.run import Run

POLL_S = 0.5
_TASKS_SHOWN = 3


class SimulationView:
    """Polls a simulation and shows its progress. The time left is estimated from the pace since the first poll."""

    def __init__(self, run: "Run", console: Console) -> None:
        self._run = run
        self._console = console
        self._held_out: dict[str, dict[int, float]] = {}
        self._printed_rounds: int | None = None
        self._start: tuple[float, float] | None = None

    def follow(self) -> CampaignDetail:
        """Show the campaign until it ends or is paused, and return it."""
        with ExitStack() as stack:
            live: Live | None = None
            if self._console.is_terminal:
                live = stack.enter_context(Live(console=self._console, auto_refresh=False))
            while True:
                campaign = self._run.campaign()
                self._held_out = held_out_by_round(self._run.client, campaign)
                if live is not None:
                    live.update(self._screen(campaign), refresh=True)
                else:
                    self._print_round(campaign)
                if campaign.state.is_at_rest:
                    return campaign
                time.sleep(POLL_S)

    def _print_round(self, campaign: CampaignDetail) -> None:
        """Print a line if a further round has closed."""
        if campaign.rounds_closed == self._printed_rounds:
            return
        self._printed_rounds = campaign.rounds_closed
        self._console.print(f"round {campaign.rounds_closed}/{campaign.rounds} {self._courses(campaign)}".rstrip())

    def _screen(self, campaign: CampaignDetail) -> RenderableType:
        done = self._run.fraction_done(campaign)
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(
            f"rounds {campaign.rounds_closed}/{campaign.rounds}",
            ProgressBar(total=1.0, completed=done, width=24),
            self._courses(campaign),
            self._time_left(campaign, done),
        )
        if campaign.state.is_final:
            return line
        leased = self._run.client.tasks(campaign.id, TaskState.LEASED)
        tasks = [_task_line(task) for task in leased if task.progress is not None][:_TASKS_SHOWN]
        return Group(line, *(Text(f"  {text}", style="dim") for text in tasks or [campaign.reason or campaign.state]))

    def _courses(self, campaign: CampaignDetail) -> str:
        return ", ".join(courses(campaign, self._held_out))

    def _time_left(self, campaign: CampaignDetail, done: float) -> str:
        """The estimated time left, from the pace since the first poll. Empty if unknown."""
        if campaign.state.is_final:
            return ""
        now = time.monotonic()
        if self._start is None or done == 0:
            self._start = (now, done)
        started_at, done_before = self._start
        if done <= done_before:
            return ""
        left_s = (now - started_at) * (1 - done) / (done - done_before)
        return f"{output.duration(left_s)} left"


def _task_line(task: TaskView) -> str:
    """A client's progress on its task, in one line."""
    assert task.progress is not None
    progress = task.progress
    loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
    own = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in progress.metrics.items()]
    speed = f"{progress.tokens_per_s:.0f} tokens/s" if progress.tokens_per_s else ""
    parts = (task.agent_name, progress.phase, done_of_total(progress), loss, *own, speed)
    return "  ".join(filter(None, parts))
