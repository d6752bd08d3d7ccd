"""The page of ``fedloom campaign show``."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from fedloom.cli import output
from fedloom.client import Client
from fedloom.measured import by_round, held_out_by_round, held_out_metrics, kind_in_words, units
from shared.metrics import HELD_OUT_LOSS, TRAIN_LOSS_MEAN
from shared.states import CampaignState, ParticipantState, TaskKind, TaskState
from shared.wire.adapters import Origin
from shared.wire.campaigns import CampaignDetail, ParticipantView, RoundView, TaskView
from shared.wire.leases import Phase, Progress

ROUNDS_SHOWN = 12
FAILURES_SHOWN = 5
NAMES_SHOWN = 5
NOTICES_SHOWN = 20

_BYTE_PHASES = (Phase.FETCHING_MODEL, Phase.DOWNLOADING, Phase.UPLOADING)


@dataclass(frozen=True)
class CampaignPage:
    """A campaign with its rounds, open tasks and failed tasks.

    train_loss: the mean by round. held_out: the held-out metrics, name to round to value.
    """

    campaign: CampaignDetail
    rounds: list[RoundView]
    train_loss: dict[int, float]
    held_out: dict[str, dict[int, float]]
    tasks: list[TaskView]
    failures: list[TaskView]

    def as_json(self) -> dict[str, Any]:
        """The page as one JSON object."""
        return {
            "campaign": self.campaign.model_dump(mode="json"),
            "rounds": [each.model_dump(mode="json") for each in self.rounds],
            "train_loss": self.train_loss,
            "held_out": self.held_out,
            "tasks": [task.model_dump(mode="json") for task in self.tasks],
            "failures": [task.model_dump(mode="json") for task in self.failures[-FAILURES_SHOWN:]],
        }

    def print(self, console: Console) -> None:
        """Print the page as tables."""
        console.print(header(self.campaign))
        self._print_spec(console)
        self._print_participants(console)
        self._print_rounds(console)
        self._print_held_out(console)
        self._print_tasks(console)
        self._print_next(console)

    def _print_spec(self, console: Console) -> None:
        spec = self.campaign.spec
        lines = output.table("", "", fold=[""])
        lines.show_header = False
        lines.add_row("id", self.campaign.id)
        lines.add_row("created", output.ago(self.campaign.created_at))
        revision = f" @ {spec.base.revision}" if spec.base.revision else ""
        quantized = f", {spec.base.quantization}" if spec.base.quantization else ""
        lines.add_row("model", f"{spec.base.model}{revision}{quantized}")
        if self.campaign.origins:
            lines.add_row("starts from", chain(self.campaign.origins))
        lines.add_row("data", f"{spec.data.name}, template {spec.data.template}")
        lines.add_row("kind", kind_in_words(spec))
        lines.add_row("training", spec.training.summary)
        params = (f"{name}={value}" for name, value in sorted(spec.algorithm.params.items()))
        lines.add_row("algorithm", " ".join([spec.algorithm.name, *params]))
        console.print(lines)

    def _print_participants(self, console: Console) -> None:
        console.print()
        if not self.campaign.participants:
            console.print("No agents take part yet. List the enrolled ones with: fedloom agent list")
            return
        mixes_ranks = any(each.rank not in (None, self.campaign.spec.lora.rank) for each in self.campaign.participants)
        rank_column = ["RANK"] if mixes_ranks else []
        table = output.table(
            "CLIENT", "AGENT", "STATE", *rank_column, "ROWS", "HELD OUT", "REASON",
            right=["CLIENT", "RANK", "ROWS", "HELD OUT"], fold=["REASON"],
        )  # fmt: skip
        for participant in self.campaign.participants:
            table.add_row(
                _count(participant.client_number),
                participant.agent_name,
                output.state(participant.state),
                *([_count(participant.rank)] if mixes_ranks else []),
                _count(participant.n_train),
                _count(participant.n_held_out),
                "; ".join(filter(None, (self._not_drawn_reason(participant), _reason(participant)))),
            )
        console.print(table)
        if notices := notices_grouped(self.campaign.participants):
            console.print(Text("\nnot trained on, at prepared agents", style="bold"))
            for names, notice in notices:
                console.print(Text(f"  {names}: {notice}"), soft_wrap=True)

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

    def _print_rounds(self, console: Console) -> None:
        losses = self.held_out.get(HELD_OUT_LOSS, {})
        if not self.rounds and not losses:
            return
        console.print()
        shown = self.rounds[-ROUNDS_SHOWN:]
        table = output.table(
            "ROUND", "STATE", "UPDATES", "TRAIN LOSS", "HELD-OUT LOSS", "", "LR", "TOOK",
            right=["ROUND", "UPDATES", "TRAIN LOSS", "HELD-OUT LOSS", "LR", "TOOK"],
        )  # fmt: skip
        if 0 in losses:
            table.add_row("0", "start", "", "", *self._held_out_loss(0), "", "")
        for each in shown:
            took = output.duration((each.closed_at - each.opened_at).total_seconds()) if each.closed_at else ""
            table.add_row(
                str(each.number),
                output.state(each.state),
                _updates(each),
                output.loss(self.train_loss.get(each.number)),
                *self._held_out_loss(each.number),
                f"{each.learning_rate:.2g}",
                took,
            )
        console.print(table)
        if len(shown) < len(self.rounds):
            console.print(f"{len(self.rounds) - len(shown)} earlier rounds: see --json", style="dim")
        metrics = [metric for metric in self.campaign.metrics if metric.name in (TRAIN_LOSS_MEAN, HELD_OUT_LOSS)]
        best = "* best" if self.campaign.best_adapter is not None else ""
        console.print("; ".join(filter(None, (best, units(metrics)))), style="dim", markup=False)

    def _held_out_loss(self, number: int) -> tuple[str, str]:
        loss = self.held_out.get(HELD_OUT_LOSS, {}).get(number)
        return output.loss(loss), "*" if number == self.campaign.best_adapter else ""

    def _print_held_out(self, console: Console) -> None:
        """Print the held-out metrics beside the loss, if there are any."""
        metrics = [each for each in held_out_metrics(self.campaign) if each.name in self.held_out]
        others = [each for each in metrics if each.name != HELD_OUT_LOSS]
        if not others:
            return
        console.print()
        titles = [metric.title.upper() for metric in others]
        table = output.table("ROUND", *titles, right=["ROUND", *titles])
        for number in sorted({number for metric in others for number in self.held_out[metric.name]})[-ROUNDS_SHOWN:]:
            values = ((metric, self.held_out[metric.name].get(number)) for metric in others)
            table.add_row(str(number), *("" if value is None else metric.text(value) for metric, value in values))
        console.print(table)
        console.print(units(others), style="dim", markup=False)

    def _print_tasks(self, console: Console) -> None:
        if self.tasks:
            console.print()
            table = output.table(
                "AGENT", "TASK", "ROUND", "DOING", "DONE", "LOSS", "TOKENS/S",
                right=["ROUND", "DONE", "LOSS", "TOKENS/S"],
            )  # fmt: skip
            for task in self.tasks:
                progress = task.progress
                idle = "waits for its agent" if task.state == TaskState.PENDING else "starting"
                table.add_row(
                    task.agent_name,
                    task.kind,
                    _count(task.round),
                    progress.phase if progress else idle,
                    done_of_total(progress) if progress else "",
                    output.loss(progress.loss) if progress else "",
                    f"{progress.tokens_per_s:.0f}" if progress and progress.tokens_per_s is not None else "",
                )
            console.print(table)
        for title, message in failures_grouped(self.failures):
            text = Text(f"\n{title}", style="red")
            console.print(text.append(f" failed {message}", style="default"))

    def _print_next(self, console: Console) -> None:
        campaign = self.campaign
        if campaign.state == CampaignState.COMPLETED:
            command = f"fedloom adapter pull {campaign.name} --out {campaign.name}-adapter"
            console.print(f"\nThe adapter is ready. Get it with:\n  {command}")
            if campaign.best_adapter is not None and campaign.best_adapter != campaign.final_adapter:
                console.print("Add --which best for the adapter with the lowest held-out loss.")
        elif campaign.state == CampaignState.PAUSED:
            console.print(f"\nContinue with:\n  fedloom campaign resume {campaign.name}")


def load(client: Client, id_or_name: str) -> CampaignPage:
    """Fetch the page's content. Raises errors.NotFound."""
    campaign = client.find_campaign(id_or_name)
    open_tasks = [task for state in (TaskState.LEASED, TaskState.PENDING) for task in client.tasks(campaign.id, state)]
    failed = list(client.tasks(campaign.id, TaskState.FAILED))
    if campaign.state.is_final:  # the updates that failed no longer matter; a metric that is missing does
        failed = [task for task in failed if task.kind is TaskKind.EVALUATE]
    return CampaignPage(
        campaign=campaign,
        rounds=list(client.rounds(campaign.id)),
        train_loss=by_round(client, campaign.id, TRAIN_LOSS_MEAN),
        held_out=held_out_by_round(client, campaign),
        tasks=sorted(open_tasks, key=lambda task: task.agent_name),
        failures=[task for task in failed if task.failure is not None],
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
    """What prepared agents do not train on, equal notices together: who, and the notice. At most NOTICES_SHOWN."""
    agents: dict[str, list[str]] = {}
    for participant in participants:
        for notice in _notices(participant):
            agents.setdefault(notice, []).append(participant.agent_name)
    shown = [(_names(names), notice) for notice, names in list(agents.items())[:NOTICES_SHOWN]]
    rest = len(agents) - NOTICES_SHOWN
    return [*shown, ("other agents", f"{rest} further notices")] if rest > 0 else shown


def _notices(participant: ParticipantView) -> list[str]:
    if participant.state is not ParticipantState.PREPARED or not participant.reason:
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
    text = Text(campaign.name, style="bold").append("  ")
    text.append_text(output.state(campaign.state))
    text.append(f"  {campaign.rounds_closed} of {campaign.rounds} rounds closed", style="default")
    if campaign.reason:
        text.append(f"\n{campaign.reason}", style="yellow")
    return text


def chain(origins: Sequence[Origin]) -> str:
    """The chain of adapters that a campaign started from, in one line."""
    return ", which started from ".join(
        f"adapter {origin.adapter_number} of {origin.campaign_name} ({origin.kind}, {origin.sha256[:12]})"
        for origin in origins
    )


def done_of_total(progress: Progress) -> str:
    """How far a task is, in steps, rows or bytes. Empty if the total is unknown."""
    if not progress.total:
        return ""
    if progress.phase in _BYTE_PHASES:
        return f"{output.size(progress.done)}/{output.size(progress.total)}"
    return f"{progress.done}/{progress.total}"


def _updates(campaign_round: RoundView) -> str:
    """Updates of the drawn clients out of those drawn, and late updates of the round before."""
    contributors, sampled = campaign_round.contributors, campaign_round.sampled
    n_late = len(set(contributors) - set(sampled))
    late = f" + {n_late} late" if n_late else ""
    return f"{len(contributors) - n_late}/{len(sampled)}{late}"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)
