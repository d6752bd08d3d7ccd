"""Progress of a simulation: a bar with rounds, losses and time left on a terminal, one line a round in a pipe."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from agent.data.checks.report import Problem
from fedloom.cli import output
from fedloom.cli.bar import Bar
from fedloom.cli.campaign.page import failures_grouped, notices_grouped
from fedloom.cli.campaign.tables.benchmark_table import BenchmarkTable
from fedloom.cli.campaign.tables.client_table import ClientTable
from fedloom.cli.campaign.tables.task_cells import done_of_total, time_left
from fedloom.cli.simulation.round_lines import RoundLines
from fedloom.measured import courses, means_by_round, measured
from shared.states import ParticipantState, TaskKind, TaskState
from shared.text.plain_text import visible_line
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
        self._lines = RoundLines(run.client, console)
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
                self._print_notices(campaign)
                if live is not None:
                    live.update(self._screen(campaign), refresh=True)
                else:
                    self._lines.print_new(campaign)
                if campaign.state.is_at_rest:
                    break
                time.sleep(POLL_S)
        self._print_failed_evaluations(campaign)
        ClientTable(campaign, list(self._run.client.clients(campaign.id))).print(self._console, "metrics.csv has them")
        if campaign.spec.evaluation.benchmarks:
            adapters = [each for each in self._run.client.adapters(campaign.id) if each.benchmarks]
            BenchmarkTable(campaign, adapters).print(self._console)
        return campaign

    def _print_notices(self, campaign: CampaignDetail) -> None:
        """Print once, when the clients are prepared, what they do not train on."""
        preparing = any(each.state is ParticipantState.PREPARING for each in campaign.participants)
        if self._noticed or preparing or campaign.fingerprint is None:
            return
        self._noticed = True
        for names, notice in notices_grouped(campaign.participants):
            self._console.print(Text(visible_line(f"{names}: {notice}"), style="yellow"))

    def _print_failed_evaluations(self, campaign: CampaignDetail) -> None:
        """Print why held-out metrics are missing. Not red letters for the rest: failed updates were replaced."""
        failed = self._run.client.tasks(campaign.id, TaskState.FAILED)
        evaluations = [task for task in failed if task.kind is TaskKind.EVALUATE and task.failure is not None]
        for title, message in failures_grouped(evaluations):
            self._console.print(Text(visible_line(f"{title} failed {message}"), style="yellow"))

    def _screen(self, campaign: CampaignDetail) -> RenderableType:
        done = self._run.fraction_done(campaign)
        line = output.grid()
        line.add_row(
            f"rounds {campaign.rounds_closed}/{campaign.rounds}",
            Bar(total=1.0, completed=done, width=24),
            self._time_left(campaign, done),
        )
        metrics = [Text(f"  {each}") for each in courses(campaign, *means_by_round(self._run.client, campaign.id))]
        if campaign.state.is_final:
            return Group(line, *metrics)
        leased = self._run.client.tasks(campaign.id, TaskState.LEASED)
        tasks = [_task_line(campaign, task) for task in leased if task.progress is not None][:_TASKS_SHOWN]
        doing = [Text(f"  {visible_line(text)}", style="dim") for text in tasks or [campaign.reason or campaign.state]]
        return Group(line, *metrics, *doing)

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
        console.print(Text(visible_line(str(notice)), style="yellow"), soft_wrap=True)


def _task_line(campaign: CampaignDetail, task: TaskView) -> str:
    """A client's progress on its task, in one line."""
    assert task.progress is not None
    progress = task.progress
    loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
    own = map(str, measured(campaign, progress.metrics))
    speed = f"{progress.tokens_per_s:.0f} tokens/s" if progress.tokens_per_s else ""
    left = f"{words} left" if (words := time_left(progress)) else ""
    names = output.some_of(task.benchmarks, 1) if task.benchmarks else ""
    parts = (task.agent_name, progress.phase, names, done_of_total(progress), loss, *own, speed, left)
    return "  ".join(filter(None, parts))
