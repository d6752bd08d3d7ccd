"""``fedloom campaign watch``: follows a campaign on a terminal, as plain lines, or as JSON."""

import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.bar import Bar
from fedloom.cli.campaign.away import AwayNotes, away_in_words
from fedloom.cli.campaign.live_losses import withheld_live
from fedloom.cli.campaign.page import header
from fedloom.cli.campaign.tables.client_table import CLIENTS_SHOWN, ClientTable
from fedloom.cli.campaign.tables.task_table import TASKS_SHOWN, tasks_at_work
from fedloom.cli.failures import ExitCode
from fedloom.client import Client
from fedloom.errors import Refused, Unreachable, is_outage
from fedloom.measured import Coverage, Means, courses, few_benchmark_metrics, means_by_round, measured
from fedloom.transport import OUTAGE_S
from shared.events import EventType
from shared.metrics import Origin
from shared.states import CampaignState, TaskState
from shared.text.plain_text import visible_line
from shared.wire.campaigns import CampaignDetail, ClientView, TaskView
from shared.wire.events import EventView

POLL_S = 1.0
EVENTS_SHOWN, NAMES_SHOWN = 6, 5
FEWEST_CLIENTS, ROWS_BESIDE = 3, 20
"""Clients that are shown however low the terminal is, and the rows of a terminal that the rest of the screen needs."""
_NEW_METRICS = (  # or new states of evaluations
    EventType.ROUND_CLOSED,
    EventType.ADAPTER_EVALUATED,
    EventType.CAMPAIGN_ROLLED_BACK,
    EventType.AGENT_JOINED,
    EventType.TASK_FAILED,
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Snapshot:
    """A campaign at one moment.

    Args:
        tasks: The leased tasks.
        clients: Its clients.
        means: The metrics of whole rounds.
        coverage: The clients in those that are means.
        new_events: Events since the snapshot before.
        outage: Why the coordinator cannot be reached; None if it answered.
    """

    campaign: CampaignDetail
    tasks: list[TaskView] = field(default_factory=list)
    clients: list[ClientView] = field(default_factory=list)
    means: Means = field(default_factory=dict)
    coverage: Coverage = field(default_factory=dict)
    new_events: list[EventView] = field(default_factory=list)
    outage: str | None = None

    @property
    def is_last(self) -> bool:
        return self.outage is None and self.campaign.state.is_at_rest


def watch(client: Client, id_or_name: str, *, as_json: bool) -> CampaignDetail:
    """Show a campaign until it ends or is paused, and return it. Raises errors.FedloomError."""
    console = output.console()
    live = not as_json and console.is_terminal
    snapshots = _snapshots(client, id_or_name)
    try:
        campaign = _draw(snapshots, console) if live else _print_lines(snapshots, as_json=as_json)
    except KeyboardInterrupt:
        output.say("stopped watching; the campaign continues", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    if not as_json:
        console.print(visible_line(_verdict(campaign)), soft_wrap=True)  # its command is there to be copied
    return campaign


def _snapshots(client: Client, id_or_name: str) -> Iterator[Snapshot]:
    """Poll the campaign, up to the snapshot in which it has ended or is paused.

    Waits up to OUTAGE_S seconds for a coordinator that stopped answering: it may be restarting. Whatever a reader of
    snapshots needs is asked for here, so that it is waited for too.
    """
    snapshot, answered_at, last_event = Snapshot(client.campaign(id_or_name)), time.monotonic(), 0
    while True:
        try:
            snapshot = _next(client, snapshot, last_event)
            answered_at = time.monotonic()
        except (Unreachable, Refused) as error:
            if not is_outage(error) or time.monotonic() - answered_at > OUTAGE_S:
                raise
            snapshot = replace(snapshot, new_events=[], outage=str(error))
        if snapshot.new_events:
            last_event = snapshot.new_events[-1].number
        yield snapshot
        if snapshot.is_last:
            return
        time.sleep(POLL_S)


def _next(client: Client, before: Snapshot, last_event: int) -> Snapshot:
    """The snapshot after another, complete or not at all. last_event: number of the last event seen."""
    campaign = client.campaign(before.campaign.id)  # the state first, so that the events up to it are complete
    events = list(client.events(campaign.id, last_event, follow=False))
    tasks = [task for state in (TaskState.LEASED, TaskState.HELD) for task in client.tasks(campaign.id, state)]
    clients, means, coverage = before.clients, before.means, before.coverage
    if any(event.type in _NEW_METRICS for event in events):
        clients, (means, coverage) = list(client.clients(campaign.id)), means_by_round(client, campaign.id)
    return Snapshot(campaign, tasks, clients, means, coverage, events)


def _print_lines(snapshots: Iterator[Snapshot], *, as_json: bool) -> CampaignDetail:
    snapshot, away = None, AwayNotes()
    for snapshot in snapshots:
        campaign = snapshot.campaign
        if as_json:
            for event in snapshot.new_events:
                output.print_json_line(event.model_dump(mode="json"))
            continue
        lines = [event_line(event, campaign) for event in snapshot.new_events] + away.changes(campaign)
        if any(event.type == EventType.ADAPTER_EVALUATED for event in snapshot.new_events):
            lines += map(str, ClientTable(campaign, snapshot.clients).sentences())
        for line in lines:
            output.say(visible_line(line))
    assert snapshot is not None
    return snapshot.campaign


def _draw(snapshots: Iterator[Snapshot], console: Console) -> CampaignDetail:
    events: deque[EventView] = deque(maxlen=EVENTS_SHOWN)
    snapshot = None
    with ExitStack() as stack:
        live: Live | None = None
        for snapshot in snapshots:
            if live is None:  # not before the first snapshot: an error should not clear the screen
                live = stack.enter_context(Live(console=console, auto_refresh=False, transient=False))
            events.extend(snapshot.new_events)
            rows = max(FEWEST_CLIENTS, min(CLIENTS_SHOWN, console.height - ROWS_BESIDE))
            live.update(_screen(snapshot, list(events), rows, console.width), refresh=True)
    assert snapshot is not None
    return snapshot.campaign


def _screen(snapshot: Snapshot, events: list[EventView], n_clients: int, width: int) -> RenderableType:
    """The screen.

    Args:
        snapshot: the campaign now.
        events: the latest.
        n_clients: most clients that the terminal has room for.
        width: columns of the terminal.
    """
    campaign = snapshot.campaign
    clients = ClientTable(campaign, snapshot.clients, n_clients)
    first, *others = courses(campaign, snapshot.means, snapshot.coverage) or [""]
    parts: list[RenderableType] = [header(campaign)]
    rounds = output.grid()
    rounds.add_row("rounds", Bar(total=campaign.rounds, completed=campaign.rounds_closed, width=24), first)
    for line in others:
        rounds.add_row("", "", line)
    parts += [rounds, ""]
    if snapshot.tasks:
        parts.append(tasks_at_work(campaign, snapshot.tasks, width))
        if (rest := len(snapshot.tasks) - TASKS_SHOWN) > 0:
            parts.append(Text(f"and {rest} more", style="dim"))
        if withheld := withheld_live(campaign, snapshot.tasks):
            parts.append(Text(withheld, style="dim"))
    else:
        parts.append(Text("no agent is working", style="dim"))
    if away := away_in_words(campaign):
        parts.append(Text(away, style="yellow"))
    if not clients.is_empty:
        hidden = [Text(f"and {clients.n_hidden} more, in campaign show --all", style="dim")] if clients.n_hidden else []
        parts += ["", clients.losses(width), *hidden, *clients.sentences()]
    if events:
        parts += [
            "",
            *(
                Text(visible_line(event_line(event, campaign)), style="dim", no_wrap=True, overflow="ellipsis")
                for event in events
            ),
        ]
    if snapshot.outage:
        parts += ["", Text(f"waiting for the coordinator: {visible_line(snapshot.outage)}", style="yellow")]
    return Group(*parts)


def event_line(event: EventView, campaign: CampaignDetail | None) -> str:
    """An event in one line, with agent names in place of ids as far as the campaign is known."""
    names = {each.agent_id: each.agent_name for each in campaign.participants} if campaign is not None else {}
    facts = dict(event.data)
    facts.pop("task_id", None)
    if shares := facts.pop("contributions", None):
        facts["contributors"] = [share["agent_name"] for share in shares]
    agent_id = facts.pop("agent_id", None)
    if agent_id is not None:
        facts = {"agent": names.get(agent_id, agent_id), **facts}
    values = _values(facts.pop("metrics", {}), campaign)
    not_run, reason = facts.pop("not_run", {}), facts.pop("reason", None)
    if isinstance(not_run, dict) and not_run:
        values = "; ".join(filter(None, (values, f"not run: {_not_run(not_run)}")))
    if reason is not None:
        facts["reason"] = reason  # last: it is a sentence
    data = " ".join(f"{name}={_fact(value)}" for name, value in facts.items() if value not in (None, []))
    return f"{event.at.astimezone():%H:%M:%S} {event.type:<17} {data} {values}".rstrip()


def _values(metrics: Mapping[str, float], campaign: CampaignDetail | None) -> str:
    """Metrics in words. Of many benchmarks a few, and how many there are beside them."""
    if campaign is None:
        return " ".join(f"{name}={_fact(value)}" for name, value in metrics.items())
    known = measured(campaign, metrics)
    few = {metric.name for metric in few_benchmark_metrics(campaign)}
    shown = [each for each in known if each.metric.origin is not Origin.BENCHMARK or each.metric.name in few]
    rest = len(known) - len(shown)
    words = [*map(str, shown), *([f"{rest} further benchmark values"] if rest else [])]
    return ", ".join(words)


def _not_run(reasons: Mapping[str, Any]) -> str:
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        grouped.setdefault(str(reason), []).append(name)
    return "; ".join(f"{output.some_of(names, NAMES_SHOWN)} ({reason})" for reason, names in grouped.items())


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
            early = f" ({campaign.reason})" if campaign.reason else ""
            command = f"fedloom adapter pull {campaign.name} --out {campaign.name}-adapter"
            return f"completed{early}; get the adapter with: {command}"
        case CampaignState.PAUSED:
            reason = f" ({campaign.reason})" if campaign.reason else ""
            return f"paused{reason}; continue with: fedloom campaign resume {campaign.name}"
        case _:
            return f"{campaign.state}" + (f": {campaign.reason}" if campaign.reason else "")
