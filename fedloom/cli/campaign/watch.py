"""``fedloom campaign watch``: follows a campaign on a terminal, as plain lines, or as JSON."""

import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.campaign.page import done_of_total, header
from fedloom.client import Client
from fedloom.errors import Unreachable
from fedloom.measured import courses, held_out_by_round, measured
from fedloom.transport import OUTAGE_S
from shared.states import CampaignState, TaskState
from shared.wire.campaigns import CampaignDetail, TaskView
from shared.wire.events import EventView

POLL_S = 1.0
EVENTS_SHOWN = 6
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Snapshot:
    """A campaign at one moment.

    Args:
        tasks: The leased tasks.
        new_events: Events since the snapshot before.
        outage: Why the coordinator cannot be reached; None if it answered.
    """

    campaign: CampaignDetail
    tasks: list[TaskView]
    new_events: list[EventView]
    outage: str | None = None

    @property
    def is_last(self) -> bool:
        return self.campaign.state.is_at_rest


def watch(client: Client, id_or_name: str, *, as_json: bool) -> CampaignDetail:
    """Show a campaign until it ends or is paused, and return it. Raises errors.FedloomError."""
    console = output.console()
    live = not as_json and console.is_terminal
    snapshots = _snapshots(client, id_or_name)
    try:
        campaign = _draw(client, snapshots, console) if live else _print_lines(snapshots, as_json=as_json)
    except KeyboardInterrupt:
        typer.echo("stopped watching; the campaign continues", err=True)
        sys.exit(130)
    if not as_json:
        console.print(_verdict(campaign), markup=False)
    return campaign


def _snapshots(client: Client, id_or_name: str) -> Iterator[Snapshot]:
    """Poll the campaign, up to the snapshot in which it has ended or is paused.

    Waits up to OUTAGE_S seconds for a coordinator that stopped answering: it may be restarting.
    """
    campaign_id, last_event = client.find_campaign(id_or_name).id, 0
    snapshot, answered_at = None, time.monotonic()
    while snapshot is None or not snapshot.is_last:
        try:
            # the state first, so that the events up to it are complete
            campaign = client.campaign(campaign_id)
            events = list(client.events(campaign_id, last_event, follow=False))
            snapshot = Snapshot(campaign, list(client.tasks(campaign_id, TaskState.LEASED)), events)
            answered_at = time.monotonic()
        except Unreachable as error:
            if snapshot is None or time.monotonic() - answered_at > OUTAGE_S:
                raise
            snapshot = Snapshot(snapshot.campaign, snapshot.tasks, [], outage=str(error))
        if snapshot.new_events:
            last_event = snapshot.new_events[-1].number
        yield snapshot
        if not snapshot.is_last:
            time.sleep(POLL_S)


def _print_lines(snapshots: Iterator[Snapshot], *, as_json: bool) -> CampaignDetail:
    snapshot = None
    for snapshot in snapshots:
        for event in snapshot.new_events:
            line = event.model_dump_json() if as_json else _line(event, snapshot.campaign)
            print(line, flush=True)  # noqa: T201  (flushed: a program may be reading the pipe)
    assert snapshot is not None
    return snapshot.campaign


def _draw(client: Client, snapshots: Iterator[Snapshot], console: Console) -> CampaignDetail:
    events: deque[EventView] = deque(maxlen=EVENTS_SHOWN)
    held_out: dict[str, dict[int, float]] = {}
    snapshot = None
    with ExitStack() as stack:
        live: Live | None = None
        for snapshot in snapshots:
            if live is None:  # not before the first snapshot: an error should not clear the screen
                live = stack.enter_context(Live(console=console, auto_refresh=False, transient=False))
            if snapshot.new_events and snapshot.outage is None:
                events.extend(snapshot.new_events)
                held_out = held_out_by_round(client, snapshot.campaign)
            live.update(_screen(snapshot, held_out, list(events)), refresh=True)
    assert snapshot is not None
    return snapshot.campaign


def _screen(snapshot: Snapshot, held_out: dict[str, dict[int, float]], events: list[EventView]) -> RenderableType:
    campaign = snapshot.campaign
    first, *others = courses(campaign, held_out) or [""]
    parts: list[RenderableType] = [header(campaign)]
    rounds = Table.grid(padding=(0, 2, 0, 0))
    rounds.add_row("rounds", ProgressBar(total=campaign.rounds, completed=campaign.rounds_closed, width=24), first)
    for line in others:
        rounds.add_row("", "", line)
    parts += [rounds, ""]
    parts.append(_tasks(snapshot) if snapshot.tasks else Text("no agent is working", style="dim"))
    if events:
        parts += [
            "",
            *(Text(_line(event, campaign), style="dim", no_wrap=True, overflow="ellipsis") for event in events),
        ]
    if snapshot.outage:
        parts += ["", Text(f"waiting for the coordinator: {snapshot.outage}", style="yellow")]
    return Group(*parts)


def _tasks(snapshot: Snapshot) -> Table:
    reported = {name for task in snapshot.tasks if task.progress for name in task.progress.metrics}
    metrics = [metric for metric in snapshot.campaign.metrics if metric.name in reported]
    right = ["DONE", "LOSS", *(metric.title.upper() for metric in metrics), "TOKENS/S"]
    table = output.table("AGENT", "DOING", "", *right, right=right)
    for task in sorted(snapshot.tasks, key=lambda task: task.agent_name):
        progress = task.progress
        if progress is None:
            table.add_row(task.agent_name, f"starting {task.kind}")
            continue
        table.add_row(
            task.agent_name,
            progress.phase,
            ProgressBar(total=progress.total, completed=progress.done, width=12) if progress.total else "",
            done_of_total(progress),
            output.loss(progress.loss),
            *(each.text(progress.metrics[each.name]) if each.name in progress.metrics else "" for each in metrics),
            f"{progress.tokens_per_s:.0f}" if progress.tokens_per_s is not None else "",
        )
    return table


def _line(event: EventView, campaign: CampaignDetail) -> str:
    """An event in one line, with agent names in place of ids."""
    names = {each.agent_id: each.agent_name for each in campaign.participants}
    facts = dict(event.data)
    facts.pop("task_id", None)
    if shares := facts.pop("contributions", None):
        facts["contributors"] = [share["agent_name"] for share in shares]
    agent_id = facts.pop("agent_id", None)
    if agent_id is not None:
        facts = {"agent": names.get(agent_id, agent_id), **facts}
    values = ", ".join(map(str, measured(campaign, facts.pop("metrics", {}))))
    data = " ".join(f"{name}={_fact(value)}" for name, value in facts.items() if value not in (None, []))
    return f"{event.at.astimezone():%H:%M:%S} {event.type:<17} {data} {values}".rstrip()


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4f}"
    text = str(value)
    return text[:12] if _DIGEST.fullmatch(text) else text


def _verdict(campaign: CampaignDetail) -> str:
    match campaign.state:
        case CampaignState.COMPLETED:
            return (
                f"completed; get the adapter with: fedloom adapter pull {campaign.name} --out {campaign.name}-adapter"
            )
        case CampaignState.PAUSED:
            reason = f" ({campaign.reason})" if campaign.reason else ""
            return f"paused{reason}; continue with: fedloom campaign resume {campaign.name}"
        case _:
            return f"{campaign.state}" + (f": {campaign.reason}" if campaign.reason else "")
