"""A simulation as it goes: a bar with rounds, losses and the time left on a terminal, a line a round in a pipe."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.campaign.page import by_round, done_of_total
from shared.states import TaskState
from shared.wire.campaigns import CampaignDetail, TaskView

if TYPE_CHECKING:
    from fedloom.simulation.run import Run

POLL_S = 0.5
_WORK_SHOWN = 3


class SimulationView:
    """Shows one look after another. What it learnt of the pace begins with the first look."""

    def __init__(self, run: "Run", console: Console) -> None:
        self._run = run
        self._console = console
        self._losses: dict[int, float] = {}
        self._told_rounds: int | None = None
        self._began: tuple[float, float] | None = None

    def follow(self) -> CampaignDetail:
        """Show the campaign until it ends or is paused, and return it."""
        with ExitStack() as stack:
            live: Live | None = None
            if self._console.is_terminal:
                live = stack.enter_context(Live(console=self._console, auto_refresh=False))
            while True:
                campaign = self._run.campaign()
                self._losses = by_round(self._run.client, campaign.id, "held_out_loss")
                if live is not None:
                    live.update(self._screen(campaign), refresh=True)
                else:
                    self._tell(campaign)
                if campaign.state.is_at_rest:
                    return campaign
                time.sleep(POLL_S)

    def _tell(self, campaign: CampaignDetail) -> None:
        """A line for each further round."""
        if campaign.rounds_closed == self._told_rounds:
            return
        self._told_rounds = campaign.rounds_closed
        self._console.print(f"round {campaign.rounds_closed}/{campaign.rounds} {self._held_out()}".rstrip())

    def _screen(self, campaign: CampaignDetail) -> RenderableType:
        done = self._run.fraction_done(campaign)
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(
            f"rounds {campaign.rounds_closed}/{campaign.rounds}",
            ProgressBar(total=1.0, completed=done, width=24),
            self._held_out(),
            self._left(campaign, done),
        )
        if campaign.state.is_final:
            return line
        leased = self._run.client.tasks(campaign.id, TaskState.LEASED)
        work = [_work(task) for task in leased if task.progress is not None][:_WORK_SHOWN]
        return Group(line, *(Text(f"  {each}", style="dim") for each in work or [campaign.reason or campaign.state]))

    def _held_out(self) -> str:
        if not self._losses:
            return ""
        first, last = self._losses[min(self._losses)], self._losses[max(self._losses)]
        return f"held-out loss {first:.3f}" + (f" → {last:.3f}" if len(self._losses) > 1 else "")

    def _left(self, campaign: CampaignDetail, done: float) -> str:
        """The time that the rest takes at the pace seen so far."""
        if campaign.state.is_final:
            return ""
        now = time.monotonic()
        if self._began is None or done == 0:
            self._began = (now, done)
        began_at, done_before = self._began
        if done <= done_before:
            return ""
        left = (now - began_at) * (1 - done) / (done - done_before)
        return f"{output.duration(left)} left"


def _work(task: TaskView) -> str:
    """What a client is at, in a line."""
    assert task.progress is not None
    at = task.progress
    loss = f"loss {at.loss:.3f}" if at.loss is not None else ""
    margin = f"margin {at.reward_margin:.3f}" if at.reward_margin is not None else ""
    speed = f"{at.tokens_per_s:.0f} tokens/s" if at.tokens_per_s else ""
    return "  ".join(filter(None, (task.agent_name, at.phase, done_of_total(at), loss, margin, speed)))
