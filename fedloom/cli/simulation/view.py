"""Progress of a simulation: a bar with rounds, losses and time left on a terminal, one line a round in a pipe."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from agent.data.report import Problem
from fedloom.cli import output
from fedloom.cli.campaign.page import done_of_total, failures_grouped, notices_grouped
from fedloom.measured import courses, held_out_by_round, measured
from shared.states import ParticipantState, TaskKind, TaskState
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
        self._printed = ""
        self._start: tuple[float, float] | None = None
        self._noticed = False

    def follow(self) -> CampaignDetail:
        """Show the campaign until it ends or is paused, and return it."""
        print_file_notices(self._run.notices, self._console)
        with ExitStack() as stack:
            live: Live | None = None
            if self._console.is_terminal:
                live = stack.enter_context(Live(console=self._console, auto_refresh=False))
            while True:
                campaign = self._run.campaign()
                self._held_out = held_out_by_round(self._run.client, campaign)
                self._print_notices(campaign)
                if live is not None:
                    live.update(self._screen(campaign), refresh=True)
                else:
                    self._print_round(campaign)
                if campaign.state.is_at_rest:
                    self._print_failed_evaluations(campaign)
                    return campaign
                time.sleep(POLL_S)

    def _print_round(self, campaign: CampaignDetail) -> None:
        """Print a line if a further round has closed, and the last one again if its evaluation came later."""
        line = f"round {campaign.rounds_closed}/{campaign.rounds} {self._courses(campaign)}".rstrip()
        is_new = campaign.rounds_closed != self._printed_rounds
        if is_new or (campaign.state.is_at_rest and line != self._printed):
            self._printed_rounds, self._printed = campaign.rounds_closed, line
            self._console.print(line, markup=False)

    def _print_notices(self, campaign: CampaignDetail) -> None:
        """Print once, when the clients are prepared, what they do not train on."""
        preparing = any(each.state is ParticipantState.PREPARING for each in campaign.participants)
        if self._noticed or preparing or campaign.fingerprint is None:
            return
        self._noticed = True
        for names, notice in notices_grouped(campaign.participants):
            self._console.print(Text(f"{names}: {notice}", style="yellow"))

    def _print_failed_evaluations(self, campaign: CampaignDetail) -> None:
        """Print why held-out metrics are missing. Not red letters for the rest: failed updates were replaced."""
        failed = self._run.client.tasks(campaign.id, TaskState.FAILED)
        evaluations = [task for task in failed if task.kind is TaskKind.EVALUATE and task.failure is not None]
        for title, message in failures_grouped(evaluations):
            self._console.print(Text(f"{title} failed {message}", style="yellow"))

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
        tasks = [_task_line(campaign, task) for task in leased if task.progress is not None][:_TASKS_SHOWN]
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


def print_file_notices(notices: Sequence[Problem], console: Console) -> None:
    """Print what is not read of the owner's files; the clients' copies do not show it any more."""
    for notice in notices:
        console.print(Text(output.visible(str(notice)), style="yellow"), soft_wrap=True)


def _task_line(campaign: CampaignDetail, task: TaskView) -> str:
    """A client's progress on its task, in one line."""
    assert task.progress is not None
    progress = task.progress
    loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
    own = map(str, measured(campaign, progress.metrics))
    speed = f"{progress.tokens_per_s:.0f} tokens/s" if progress.tokens_per_s else ""
    parts = (task.agent_name, progress.phase, done_of_total(progress), loss, *own, speed)
    return "  ".join(filter(None, parts))
