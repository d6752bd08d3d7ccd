"""The page of ``fedloom campaign show``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fedloom.adapters.benchmarks_shown import asked_in_words
from fedloom.cli import output
from fedloom.cli.campaign.away import away_by_name
from fedloom.cli.campaign.current_failures import current_failures, is_told
from fedloom.cli.campaign.live_losses import withheld_live
from fedloom.cli.campaign.tables.benchmark_table import BenchmarkTable
from fedloom.cli.campaign.tables.client_table import CLIENTS_SHOWN, ClientTable
from fedloom.cli.campaign.tables.gains_section import ROUNDS_SHOWN as GAIN_ROUNDS_SHOWN
from fedloom.cli.campaign.tables.gains_section import print_gains
from fedloom.cli.campaign.tables.metric_tables import print_metrics
from fedloom.cli.campaign.tables.round_table import RoundTable
from fedloom.cli.campaign.tables.task_table import open_tasks
from fedloom.client import Client
from fedloom.measured import (
    Coverage,
    Means,
    benchmark_metrics,
    best_in_words,
    held_out_metrics,
    kind_in_words,
    means_by_round,
    training_metrics,
)
from fedloom.precision import precision_in_words
from shared.metrics import HELD_OUT_LOSS, TRAIN_LOSS_MEAN, Metric
from shared.states import CampaignState, ParticipantState, TaskState
from shared.text.plain_text import visible_line
from shared.wire.adapters import AdapterView, Origin
from shared.wire.campaigns import CampaignDetail, ClientView, ParticipantView, RoundView, TaskView
from shared.wire.gains import GainView

ROUNDS_SHOWN = 12
PARTICIPANTS_SHOWN = 20
FAILURES_SHOWN = 5
NAMES_SHOWN = 5
NOTICES_SHOWN = 20


@dataclass(frozen=True)
class CampaignPage:
    """A campaign with its clients, rounds, open tasks and failed tasks.

    means: the metrics of whole rounds, name to round to value. coverage: the clients in the means among them.
    adapters: those on which benchmarks ran. gains: what owners gain, as far as they tell it.
    """

    campaign: CampaignDetail
    clients: list[ClientView]
    rounds: list[RoundView]
    means: Means
    tasks: list[TaskView]
    failures: list[TaskView]
    coverage: Coverage = field(default_factory=dict)
    adapters: list[AdapterView] = field(default_factory=list)
    gains: list[GainView] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The page as one JSON object."""
        return {
            "campaign": self.campaign.model_dump(mode="json"),
            "clients": [each.model_dump(mode="json") for each in self.clients],
            "rounds": [each.model_dump(mode="json") for each in self.rounds],
            "train_loss": self.means.get(TRAIN_LOSS_MEAN, {}),
            "held_out": self._means_of(held_out_metrics(self.campaign)),
            "training": self._means_of(training_metrics(self.campaign)),
            "benchmarks": self._means_of(benchmark_metrics(self.campaign)),
            "benchmark_runs": {
                each.number: [view.model_dump(mode="json") for view in each.benchmarks] for each in self.adapters
            },
            "clients_in_means": self.coverage,
            "gains": [each.model_dump(mode="json") for each in self.gains],
            "tasks": [task.model_dump(mode="json") for task in self.tasks],
            "failures": [task.model_dump(mode="json") for task in self.failures[-FAILURES_SHOWN:]],
        }

    def print(self, console: Console, *, whole: bool = False) -> None:
        """Print the page as tables. whole: all agents, clients and rounds, however many there are."""
        n_rounds = None if whole else ROUNDS_SHOWN
        console.print(header(self.campaign))
        self._print_spec(console)
        self._print_participants(console, None if whole else PARTICIPANTS_SHOWN)
        ClientTable(self.campaign, self.clients, None if whole else CLIENTS_SHOWN).print(console, "--all shows them")
        RoundTable(self.campaign, self.rounds, self.means, self.coverage).print(console, n_rounds)
        print_metrics(console, self.campaign, self.means, n_rounds)
        BenchmarkTable(self.campaign, self.adapters).print(console)
        if self.gains:
            [loss] = [each for each in self.campaign.metrics if each.name == HELD_OUT_LOSS]
            print_gains(console, self.gains, loss, None if whole else GAIN_ROUNDS_SHOWN)
        self._print_tasks(console)
        self._print_next(console)

    def _means_of(self, metrics: Sequence[Metric]) -> dict[str, Any]:
        return {metric.name: self.means[metric.name] for metric in metrics if metric.name in self.means}

    def _print_spec(self, console: Console) -> None:
        spec = self.campaign.spec
        lines = output.table("", "", fold=[""])
        lines.show_header = False
        lines.add_row("id", self.campaign.id)
        lines.add_row("digest", self.campaign.spec_sha256)
        lines.add_row("created", output.ago(self.campaign.created_at))
        revision = f" @ {spec.base.revision}" if spec.base.revision else ""
        lines.add_row("model", f"{spec.base.model}{revision}{precision_in_words(spec.base)}")
        if self.campaign.origins:
            lines.add_row("starts from", chain(self.campaign.origins))
            lines.add_row("start SHA-256", spec.start_sha256 or "")
        lines.add_row("data", f"{spec.data.name}, template {spec.data.template}")
        lines.add_row("kind", kind_in_words(spec))
        lines.add_row("training", spec.training.summary)
        params = (f"{name}={value}" for name, value in sorted(spec.algorithm.params.items()))
        lines.add_row("algorithm", " ".join([spec.algorithm.name, *params]))
        if spec.wire != "float32":
            lines.add_row("updates", f"sent in {spec.wire} (wire)")
        if benchmarks := asked_in_words(spec.evaluation):
            lines.add_row("benchmarks", benchmarks)
        if spec.evaluation.asks_for_a_decision:
            lines.add_row("best adapter", best_in_words(self.campaign))
        if spec.retention.kept_updates is not None:
            lines.add_row("retention", f"{spec.retention.kept_updates} (retention.updates)")
        console.print(lines)

    def _print_participants(self, console: Console, n_shown: int | None) -> None:
        console.print()
        if not self.campaign.participants:
            console.print("No agents take part yet. List the enrolled ones with: fedloom agent list")
            return
        mixes_ranks = any(each.rank not in (None, self.campaign.spec.lora.rank) for each in self.campaign.participants)
        rank_column = ["RANK"] if mixes_ranks else []
        each_decides = self.campaign.spec.base.cpu_dtype == "auto"
        precision_column = ["ON CPU"] if each_decides else []
        table = output.table(
            "CLIENT", "AGENT", "STATE", *rank_column, *precision_column, "ROWS", "HELD OUT", "REASON",
            right=["CLIENT", "RANK", "ROWS", "HELD OUT"], fold=["AGENT", "REASON"],
        )  # fmt: skip
        shown = self._shown_participants(n_shown)
        for participant in shown:
            table.add_row(
                _count(participant.client_number),
                participant.agent_name,
                output.state("revoked" if participant.revoked else participant.state),
                *([_count(participant.rank)] if mixes_ranks else []),
                *([participant.cpu_dtype or ""] if each_decides else []),
                _count(participant.n_train),
                _count(participant.n_held_out),
                self._why(participant),
            )
        console.print(table)
        if rest := len(self.campaign.participants) - len(shown):
            console.print(f"and {rest} more; --all shows them", style="dim")
        if _needs_another_try(self.campaign):
            name = self.campaign.name
            console.print("once the cause is mended, an agent tries again after its owner types:", style="dim")
            console.print(f"  fedloom agent approve {name}", soft_wrap=True)
            console.print("and all that failed try again after:", style="dim")
            console.print(f"  fedloom campaign pause {name}\n  fedloom campaign resume {name}", soft_wrap=True)
        if notices := notices_grouped(self.campaign.participants):
            console.print(Text("\nnotices of prepared agents", style="bold"))
            for names, notice in notices:
                line = Text(f"{visible_line(names)}: {visible_line(notice)}")
                console.print(Padding(line, (0, 0, 0, 2), expand=False))

    def _shown_participants(self, n_shown: int | None) -> list[ParticipantView]:
        """The participants that fit: of too many, those with something to tell come before others."""
        everyone = self.campaign.participants
        if n_shown is None or len(everyone) <= n_shown:
            return everyone
        quiet = {each.agent_id for each in everyone if each.state is ParticipantState.PREPARED and not self._why(each)}
        chosen = sorted(everyone, key=lambda each: each.agent_id in quiet)[:n_shown]
        return sorted(chosen, key=everyone.index)

    def _why(self, participant: ParticipantView) -> str:
        """What keeps a participant from training, and the number of its notices. Empty if its agent is revoked."""
        if participant.revoked:
            return ""
        reasons = self._away(participant), self._not_drawn_reason(participant), _reason(participant)
        return "; ".join(filter(None, reasons))

    def _away(self, participant: ParticipantView) -> str:
        """Since when an agent that the campaign may still need is away. Empty if it is not."""
        since = self._away_since.get(participant.agent_name)
        return f"away since {since}" if since is not None else ""

    @cached_property
    def _away_since(self) -> dict[str, str]:
        return away_by_name(self.campaign)

    def _not_drawn_reason(self, participant: ParticipantView) -> str:
        """Why a prepared participant is not drawn. Empty if it may be drawn."""
        campaign = self.campaign
        if participant.state != ParticipantState.PREPARED or campaign.state.is_final:
            return ""
        if participant.client_number is None:
            has_clients = any(each.client_number is not None for each in campaign.participants)
            return "joins in the next round" if has_clients else ""
        until = participant.set_aside_until
        if until is None or until <= campaign.rounds_closed:
            return ""
        n = participant.failures_in_a_row
        return f"set aside until round {until} after {n} failure{'s in a row' if n > 1 else ''}"

    def _print_tasks(self, console: Console) -> None:
        if self.tasks:
            console.print()
            console.print(open_tasks(self.tasks, console.width))
            if withheld := withheld_live(self.campaign, self.tasks):
                console.print(Text(withheld, style="dim"))
        untold = [task for task in self.failures if not is_told(task, self.campaign)]
        for title, message in failures_grouped(untold):
            text = Text(f"\n{visible_line(title)}", style="red")
            console.print(text.append(f" failed {visible_line(message)}", style="default"))

    def _print_next(self, console: Console) -> None:
        campaign = self.campaign
        if campaign.state == CampaignState.COMPLETED:
            command = f"fedloom adapter pull {campaign.name} --out {campaign.name}-adapter"
            console.print(f"\nThe adapter is ready. Get it with:\n  {command}", soft_wrap=True)
            if campaign.best_adapter is not None and campaign.best_adapter != campaign.final_adapter:
                console.print(f"Add --adapter best for the adapter with the {best_in_words(campaign)}.")
        elif campaign.state == CampaignState.PAUSED:
            console.print(f"\nContinue with:\n  fedloom campaign resume {campaign.name}", soft_wrap=True)


def _needs_another_try(campaign: CampaignDetail) -> bool:
    """Whether participants failed that only pausing and resuming the campaign gives another try."""
    unready = ParticipantState.FAILED, ParticipantState.MISMATCHED
    is_at_work = not campaign.state.is_at_rest
    return is_at_work and any(each.state in unready and not each.revoked for each in campaign.participants)


def load(client: Client, id_or_name: str) -> CampaignPage:
    """Fetch the page's content. Raises errors.NotFound."""
    campaign = client.campaign(id_or_name)
    states = (TaskState.LEASED, TaskState.HELD, TaskState.PENDING)
    open_tasks = [task for state in states for task in client.tasks(campaign.id, state)]
    failed = list(client.tasks(campaign.id, TaskState.FAILED))
    means, coverage = means_by_round(client, campaign.id)
    adapters = client.adapters(campaign.id) if campaign.spec.evaluation.benchmarks else ()
    return CampaignPage(
        campaign=campaign,
        clients=list(client.clients(campaign.id)),
        rounds=list(client.rounds(campaign.id)),
        means=means,
        tasks=sorted(open_tasks, key=lambda task: task.agent_name),
        failures=current_failures(campaign, failed, open_tasks),
        coverage=coverage,
        adapters=[each for each in adapters if each.benchmarks],
        gains=list(client.gains(campaign.id)),
    )


def failures_grouped(tasks: Sequence[TaskView]) -> list[tuple[str, str]]:
    """The latest failures, equal ones together: who failed at what, and the failure with its kind."""
    agents: dict[tuple[str, str, str], list[str]] = {}
    for task in tasks:
        assert task.failure is not None
        key = (task.kind, task.failure.kind, task.failure.message)
        agents[key] = [*agents.pop(key, []), task.agent_name]  # popped: the latest group comes last
    return [
        (f"{_names(names)}, {kind} task{'s' if len(names) > 1 else ''}", f"({failure_kind}): {message}")
        for (kind, failure_kind, message), names in list(agents.items())[-FAILURES_SHOWN:]
    ]


def notices_grouped(participants: Sequence[ParticipantView]) -> list[tuple[str, str]]:
    """What prepared agents do not train on, and who outweighs all others, equal notices together: who, and the notice.
    At most NOTICES_SHOWN."""
    agents: dict[str, list[str]] = {}
    for participant in participants:
        for notice in _notices(participant):
            agents.setdefault(notice, []).append(participant.agent_name)
    shown = [(_names(names), notice) for notice, names in list(agents.items())[:NOTICES_SHOWN]]
    rest = len(agents) - NOTICES_SHOWN
    return [*shown, ("other agents", f"{rest} further notices")] if rest > 0 else shown


def _notices(participant: ParticipantView) -> list[str]:
    if participant.revoked or participant.state is not ParticipantState.PREPARED or not participant.reason:
        return []
    return participant.reason.split("; ")


def _reason(participant: ParticipantView) -> str:
    """Why a participant does not train. Of a prepared one, the number of its notices, which are listed apart."""
    if participant.state is not ParticipantState.PREPARED:
        return participant.reason or ""
    n = len(_notices(participant))
    return f"{n} notice{'s' if n > 1 else ''}, below" if n else ""


def _names(names: Sequence[str]) -> str:
    """Each name once, with its number of times; at most NAMES_SHOWN of them."""
    counts = Counter(names)
    shown = [name if n == 1 else f"{name} ({n} times)" for name, n in list(counts.items())[:NAMES_SHOWN]]
    rest = len(counts) - NAMES_SHOWN
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def header(campaign: CampaignDetail) -> Text:
    """Name, state, rounds, and the reason of the state."""
    text = Text(visible_line(campaign.name), style="bold").append("  ")
    text.append_text(output.state(campaign.state))
    text.append(f"  {campaign.rounds_closed} of {campaign.rounds} rounds closed", style="default")
    if campaign.reason:
        text.append(f"\n{visible_line(campaign.reason)}", style="yellow")
    return text


def chain(origins: Sequence[Origin]) -> str:
    """The chain of adapters that a campaign started from, in one line."""
    return ", which started from ".join(
        f"adapter {origin.adapter_number} of {origin.campaign_name} ({origin.kind}, {origin.sha256[:12]})"
        for origin in origins
    )


def _count(value: int | None) -> str:
    return "" if value is None else str(output.bounded(value))
