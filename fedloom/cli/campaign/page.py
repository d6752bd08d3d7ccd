"""What ``fedloom campaign show`` shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from fedloom.cli import output
from fedloom.client import Client
from shared.states import CampaignState, ParticipantState, TaskState
from shared.wire.adapters import Origin
from shared.wire.campaigns import CampaignDetail, ParticipantView, RoundView, TaskView
from shared.wire.leases import Phase, Progress

ROUNDS_SHOWN = 12
FAILURES_SHOWN = 5

_BYTE_PHASES = (Phase.FETCHING_MODEL, Phase.DOWNLOADING, Phase.UPLOADING)


@dataclass(frozen=True)
class CampaignPage:
    """A campaign with its rounds, its losses by round, its open tasks and the tasks that failed last."""

    campaign: CampaignDetail
    rounds: list[RoundView]
    train_loss: dict[int, float]
    held_out_loss: dict[int, float]
    tasks: list[TaskView]
    failures: list[TaskView]

    def as_json(self) -> dict[str, Any]:
        """All of it as one JSON object."""
        return {
            "campaign": self.campaign.model_dump(mode="json"),
            "rounds": [one.model_dump(mode="json") for one in self.rounds],
            "train_loss": self.train_loss,
            "held_out_loss": self.held_out_loss,
            "tasks": [one.model_dump(mode="json") for one in self.tasks],
            "failures": [one.model_dump(mode="json") for one in self.failures],
        }

    def print(self, console: Console) -> None:
        """Print it for people."""
        console.print(header(self.campaign))
        self._print_spec(console)
        self._print_participants(console)
        self._print_rounds(console)
        self._print_tasks(console)
        self._print_next(console)

    def _print_spec(self, console: Console) -> None:
        spec = self.campaign.spec
        training = spec.training
        amount = f"{training.steps} step(s)" if training.steps is not None else f"{training.epochs:g} epoch(s)"
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
        lines.add_row("training", f"{amount} a round, batch {training.batch_size}, lr {training.learning_rate:g}")
        params = (f"{name}={value}" for name, value in sorted(spec.algorithm.params.items()))
        lines.add_row("algorithm", " ".join([spec.algorithm.name, *params]))
        console.print(lines)

    def _print_participants(self, console: Console) -> None:
        console.print()
        if not self.campaign.participants:
            console.print("No agents take part yet; see who is enrolled with: fedloom agent list")
            return
        table = output.table(
            "CLIENT", "AGENT", "STATE", "ROWS", "HELD OUT", "REASON",
            right=["CLIENT", "ROWS", "HELD OUT"], fold=["REASON"],
        )  # fmt: skip
        for one in self.campaign.participants:
            table.add_row(
                _count(one.client_number),
                one.agent_name,
                output.state(one.state),
                _count(one.n_train),
                _count(one.n_held_out),
                "; ".join([*self._standing(one), *([one.reason] if one.reason else [])]),
            )
        console.print(table)

    def _standing(self, one: ParticipantView) -> list[str]:
        """Why a client that is ready is not drawn."""
        campaign = self.campaign
        if one.state != ParticipantState.PREPARED or campaign.state.is_final:
            return []
        if one.client_number is None:
            has_begun = any(each.client_number is not None for each in campaign.participants)
            return ["joins in the next round"] if has_begun else []
        if one.set_aside_until is None or one.set_aside_until <= campaign.rounds_closed:
            return []
        n = one.failures_in_a_row
        return [f"set aside until round {one.set_aside_until} after {n} failure{'s in a row' if n > 1 else ''}"]

    def _print_rounds(self, console: Console) -> None:
        if not self.rounds and not self.held_out_loss:
            return
        console.print()
        shown = self.rounds[-ROUNDS_SHOWN:]
        table = output.table(
            "ROUND", "STATE", "UPDATES", "TRAIN LOSS", "HELD-OUT LOSS", "", "LR", "TOOK",
            right=["ROUND", "UPDATES", "TRAIN LOSS", "HELD-OUT LOSS", "LR", "TOOK"],
        )  # fmt: skip
        if 0 in self.held_out_loss:
            table.add_row("0", "start", "", "", *self._held_out(0), "", "")
        for one in shown:
            took = output.duration((one.closed_at - one.opened_at).total_seconds()) if one.closed_at else ""
            table.add_row(
                str(one.number),
                output.state(one.state),
                _updates(one),
                output.loss(self.train_loss.get(one.number)),
                *self._held_out(one.number),
                f"{one.learning_rate:.2g}",
                took,
            )
        console.print(table)
        if len(shown) < len(self.rounds):
            console.print(f"{len(self.rounds) - len(shown)} earlier rounds are in --json", style="dim")
        if self.campaign.best_adapter is not None:
            console.print("* best", style="dim")

    def _held_out(self, number: int) -> tuple[str, str]:
        return output.loss(self.held_out_loss.get(number)), "*" if number == self.campaign.best_adapter else ""

    def _print_tasks(self, console: Console) -> None:
        if self.tasks:
            console.print()
            table = output.table(
                "AGENT", "TASK", "ROUND", "DOING", "DONE", "LOSS", "TOKENS/S",
                right=["ROUND", "DONE", "LOSS", "TOKENS/S"],
            )  # fmt: skip
            for one in self.tasks:
                at = one.progress
                doing = at.phase if at else ("waits for its agent" if one.state == TaskState.PENDING else "starting")
                table.add_row(
                    one.agent_name,
                    one.kind,
                    _count(one.round),
                    doing,
                    done_of_total(at) if at else "",
                    output.loss(at.loss) if at else "",
                    f"{at.tokens_per_s:.0f}" if at and at.tokens_per_s is not None else "",
                )
            console.print(table)
        for one in self.failures:
            assert one.failure is not None
            text = Text(f"\n{one.agent_name}, {one.kind} task", style="red")
            console.print(text.append(f" failed ({one.failure.kind}): {one.failure.message}", style="default"))

    def _print_next(self, console: Console) -> None:
        campaign = self.campaign
        if campaign.state == CampaignState.COMPLETED:
            command = f"fedloom adapter pull {campaign.name} --out {campaign.name}-adapter"
            console.print(f"\nThe adapter is ready. Get it with:\n  {command}")
            if campaign.best_adapter is not None and campaign.best_adapter != campaign.final_adapter:
                console.print("or the one with the lowest held-out loss with --which best")
        elif campaign.state == CampaignState.PAUSED:
            console.print(f"\nGo on with:\n  fedloom campaign resume {campaign.name}")


def load(client: Client, id_or_name: str) -> CampaignPage:
    """Ask for all that the page shows."""
    campaign = client.find_campaign(id_or_name)
    open_tasks = [one for state in (TaskState.LEASED, TaskState.PENDING) for one in client.tasks(campaign.id, state)]
    failed = [] if campaign.state.is_final else list(client.tasks(campaign.id, TaskState.FAILED))
    return CampaignPage(
        campaign=campaign,
        rounds=list(client.rounds(campaign.id)),
        train_loss=by_round(client, campaign.id, "train_loss_mean"),
        held_out_loss=by_round(client, campaign.id, "held_out_loss"),
        tasks=sorted(open_tasks, key=lambda one: one.agent_name),
        failures=[one for one in failed if one.failure is not None][-FAILURES_SHOWN:],
    )


def by_round(client: Client, campaign_id: str, name: str) -> dict[int, float]:
    """A metric of whole rounds, by round."""
    return {one.round: one.value for one in client.metrics(campaign_id, name) if one.client_number is None}


def header(campaign: CampaignDetail) -> Text:
    """Name, state, rounds, and why it stands where it stands."""
    text = Text(campaign.name, style="bold").append("  ")
    text.append_text(output.state(campaign.state))
    text.append(f"  {campaign.rounds_closed} of {campaign.rounds} rounds closed", style="default")
    if campaign.reason:
        text.append(f"\n{campaign.reason}", style="yellow")
    return text


def chain(origins: Sequence[Origin]) -> str:
    """The adapters that a campaign goes back to, in a line."""
    return ", which started from ".join(
        f"adapter {one.adapter_number} of {one.campaign_name} ({one.kind}, {one.sha256[:12]})" for one in origins
    )


def done_of_total(at: Progress) -> str:
    """How far a task is, in steps, rows or bytes."""
    if not at.total:
        return ""
    if at.phase in _BYTE_PHASES:
        return f"{output.size(at.done)}/{output.size(at.total)}"
    return f"{at.done}/{at.total}"


def _updates(one: RoundView) -> str:
    """How many of those drawn contributed, and how many late ones of the round before."""
    n_late = len(set(one.contributors) - set(one.sampled))
    late = f" + {n_late} late" if n_late else ""
    return f"{len(one.contributors) - n_late}/{len(one.sampled)}{late}"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)
