"""``fedloom campaign watch``: a campaign as it goes, on a terminal, as plain lines, or as JSON."""

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
from fedloom.cli.campaign.page import by_round, done_of_total, header
from fedloom.client import Client
from fedloom.errors import Unreachable
from fedloom.transport import OUTAGE_S
from shared.states import CampaignState, TaskState
from shared.wire.campaigns import CampaignDetail, TaskView
from shared.wire.events import EventView

POLL_S = 1.0
EVENTS_SHOWN = 6
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Look:
    """One look at a campaign, with the events since the one before. ``away`` says why the coordinator is not seen."""

    campaign: CampaignDetail
    tasks: list[TaskView]
    new_events: list[EventView]
    away: str | None = None

    @property
    def is_last(self) -> bool:
        return self.campaign.state.is_at_rest


def watch(client: Client, id_or_name: str, *, as_json: bool) -> CampaignDetail:
    """Show a campaign until it ends or is paused, and return it. Raises errors.FedloomError."""
    console = output.console()
    live = not as_json and console.is_terminal
    looks = _looks(client, id_or_name)
    try:
        campaign = _draw(client, looks, console) if live else _print_lines(looks, as_json=as_json)
    except KeyboardInterrupt:
        typer.echo("stopped watching; the campaign goes on", err=True)
        sys.exit(130)
    if not as_json:
        console.print(_verdict(campaign))
    return campaign


def _looks(client: Client, id_or_name: str) -> Iterator[Look]:
    """Look again and again, up to the look in which the campaign has ended or is paused.

    A coordinator that was seen and is gone is waited for: it may be restarting.
    """
    campaign_id, last_event = client.find_campaign(id_or_name).id, 0
    look, seen_at = None, time.monotonic()
    while look is None or not look.is_last:
        try:
            # the state first: the events up to it are then complete
            campaign = client.campaign(campaign_id)
            events = list(client.events(campaign_id, last_event, follow=False))
            look = Look(campaign, list(client.tasks(campaign_id, TaskState.LEASED)), events)
            seen_at = time.monotonic()
        except Unreachable as error:
            if look is None or time.monotonic() - seen_at > OUTAGE_S:
                raise
            look = Look(look.campaign, look.tasks, [], away=str(error))
        if look.new_events:
            last_event = look.new_events[-1].number
        yield look
        if not look.is_last:
            time.sleep(POLL_S)


def _print_lines(looks: Iterator[Look], *, as_json: bool) -> CampaignDetail:
    look = None
    for look in looks:
        for event in look.new_events:
            line = event.model_dump_json() if as_json else _line(event, look.campaign)
            print(line, flush=True)  # noqa: T201  (flushed: somebody may be reading the pipe)
    assert look is not None
    return look.campaign


def _draw(client: Client, looks: Iterator[Look], console: Console) -> CampaignDetail:
    events: deque[EventView] = deque(maxlen=EVENTS_SHOWN)
    losses: dict[int, float] = {}
    look = None
    with ExitStack() as stack:
        live: Live | None = None
        for look in looks:
            if live is None:  # not before the first look: an error should not clear the screen
                live = stack.enter_context(Live(console=console, auto_refresh=False, transient=False))
            if look.new_events and look.away is None:
                events.extend(look.new_events)
                losses = by_round(client, look.campaign.id, "held_out_loss")
            live.update(_screen(look, losses, list(events)), refresh=True)
    assert look is not None
    return look.campaign


def _screen(look: Look, losses: dict[int, float], events: list[EventView]) -> RenderableType:
    campaign = look.campaign
    parts: list[RenderableType] = [header(campaign)]
    rounds = Table.grid(padding=(0, 2, 0, 0))
    rounds.add_row(
        "rounds", ProgressBar(total=campaign.rounds, completed=campaign.rounds_closed, width=24), _losses(losses)
    )
    parts += [rounds, ""]
    parts.append(_tasks(look.tasks) if look.tasks else Text("no agent is at work", style="dim"))
    if events:
        parts += [
            "",
            *(Text(_line(event, campaign), style="dim", no_wrap=True, overflow="ellipsis") for event in events),
        ]
    if look.away:
        parts += ["", Text(f"waiting for the coordinator: {look.away}", style="yellow")]
    return Group(*parts)


def _losses(losses: dict[int, float]) -> str:
    if not losses:
        return ""
    first, last = min(losses), max(losses)
    if first == last:
        return f"held-out loss {losses[last]:.4f}"
    return f"held-out loss {losses[first]:.4f} → {losses[last]:.4f}"


def _tasks(tasks: list[TaskView]) -> Table:
    rewards = (
        ["MARGIN", "RIGHT"] if any(one.progress and one.progress.reward_margin is not None for one in tasks) else []
    )
    right = ["DONE", "LOSS", *rewards, "TOKENS/S"]
    table = output.table("AGENT", "DOING", "", *right, right=right)
    for one in sorted(tasks, key=lambda task: task.agent_name):
        at = one.progress
        if at is None:
            table.add_row(one.agent_name, f"starting {one.kind}")
            continue
        table.add_row(
            one.agent_name,
            at.phase,
            ProgressBar(total=at.total, completed=at.done, width=12) if at.total else "",
            done_of_total(at),
            output.loss(at.loss),
            *([output.loss(at.reward_margin), output.share(at.reward_accuracy)] if rewards else []),
            f"{at.tokens_per_s:.0f}" if at.tokens_per_s is not None else "",
        )
    return table


def _line(event: EventView, campaign: CampaignDetail) -> str:
    """An event in one line, with names in place of ids."""
    names = {one.agent_id: one.agent_name for one in campaign.participants}
    facts = dict(event.data)
    facts.pop("task_id", None)
    if shares := facts.pop("contributions", None):
        facts["contributors"] = [share["agent_name"] for share in shares]
    agent_id = facts.pop("agent_id", None)
    if agent_id is not None:
        facts = {"agent": names.get(agent_id, agent_id), **facts}
    told = " ".join(f"{name}={_fact(value)}" for name, value in facts.items() if value not in (None, []))
    return f"{event.at.astimezone():%H:%M:%S} {event.type:<17} {told}".rstrip()


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
            why = f" ({campaign.reason})" if campaign.reason else ""
            return f"paused{why}; go on with: fedloom campaign resume {campaign.name}"
        case _:
            return f"{campaign.state}" + (f": {campaign.reason}" if campaign.reason else "")
