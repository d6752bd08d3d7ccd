"""A campaign's clients for people: weights and losses, who gains and who loses, who tells no losses, who is away."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fedloom.cli import output
from fedloom.measured import held_out_metrics
from shared.metrics import HELD_OUT_LOSS, TRAIN_LOSS_MEAN, Metric
from shared.states import EvaluationState
from shared.wire.campaigns import CampaignDetail, ClientView

CLIENTS_SHOWN = 20
NAMES_SHOWN = 5
WIDE = 100
"""Columns of a terminal from which on the loss at the start has its own column."""

_NOTES = {
    EvaluationState.UNDER_WAY: "being evaluated",
    EvaluationState.FAILED: "evaluation failed",
    EvaluationState.WITHHELD: "withheld by its owner",
    EvaluationState.TOO_FEW_ROWS: "too few held-out rows",
    EvaluationState.NO_ROWS: "no held-out rows",
    EvaluationState.NONE: "not evaluated",
}


@dataclass(frozen=True)
class ClientTable:
    """Clients of a campaign. n_shown: most of them in a table; None for all."""

    campaign: CampaignDetail
    clients: Sequence[ClientView]
    n_shown: int | None = CLIENTS_SHOWN

    @property
    def is_empty(self) -> bool:
        """Whether no client has trained or been evaluated."""
        return all(each.update_round is None and each.evaluated_adapter is None for each in self.clients)

    @property
    def n_hidden(self) -> int:
        """How many clients the tables leave out."""
        return len(self.clients) - len(self._shown())

    @property
    def _evaluates(self) -> bool:
        return self.campaign.spec.evaluation.every > 0

    def print(self, console: Console, rest: str) -> None:
        """Print the tables and what follows from them, unless nothing is known yet. rest: what shows all clients."""
        if self.is_empty:
            return
        console.print()
        console.print(self.losses(console.width))
        if self.n_hidden:
            console.print(Text(f"and {self.n_hidden} more; {rest}", style="dim"))
        for line in (self.caption(), *self.sentences()):
            console.print(line)
        for table in self.own_metrics(console.width):
            console.print()
            console.print(table)

    def losses(self, width: int) -> Table:
        """Weights and losses by client, for a terminal of *width* columns."""
        start = "BASE" if not self.campaign.origins else "ADAPTER 0"
        held_out = ["HELD-OUT LOSS", *([start] if width >= WIDE else []), f"VS {start}"] if self._evaluates else []
        right = ["WEIGHT", "TRAIN LOSS", *held_out]
        table = output.table("AGENT", *right, "", right=right, fold=["AGENT", ""])
        for client in self._shown():
            cells: dict[str, RenderableType] = {
                "WEIGHT": f"{client.update_weight:.1%}" if client.update_weight is not None else "",
                "TRAIN LOSS": output.loss(client.training.get(TRAIN_LOSS_MEAN)),
                "HELD-OUT LOSS": output.loss(client.held_out.get(HELD_OUT_LOSS)),
                start: output.loss(client.base.get(HELD_OUT_LOSS)),
                f"VS {start}": Text(_change(client), style="red" if client.worse_than_base else ""),
            }
            table.add_row(client.agent_name, *(cells[title] for title in right), self._note(client))
        return table

    def own_metrics(self, width: int) -> list[Table]:
        """The kind's own held-out metrics by client, at the start and now; several tables if they are too wide."""
        shown = [each for each in self._shown() if each.held_out]
        columns = {
            metric.title.upper(): [_course(client, metric) for client in shown]
            for metric in held_out_metrics(self.campaign)
            if metric.name != HELD_OUT_LOSS
        }
        columns = {title: cells for title, cells in columns.items() if any(cells)}
        widths = {title: max(len(title), *map(len, cells)) for title, cells in columns.items()}
        longest = max((len(each.agent_name) for each in shown), default=0)
        tables = []
        for titles in output.blocks(widths, width - min(longest, width // 4) - 2):
            table = output.table("AGENT", *titles, right=titles, fold=["AGENT"])
            for client, *cells in zip(shown, *(columns[title] for title in titles), strict=True):
                table.add_row(client.agent_name, *cells)
            tables.append(table)
        return tables

    def caption(self) -> Text:
        """What the values of the table are of."""
        trained = [each.update_round for each in self.clients if each.update_round is not None]
        evaluated = [each.evaluated_adapter for each in self.clients if each.evaluated_adapter is not None]
        parts = []
        if trained:
            parts.append(f"last updates up to round {max(trained)}")
        if evaluated:
            parts.append(f"held-out losses of adapter {max(evaluated)}")
        return Text("; ".join(parts), style="dim")

    def sentences(self) -> list[Text]:
        """Who is worse off than at the start, and whose losses the means are without."""
        lines = []
        if worse := self.worse():
            than = "adapter 0, the start" if self.campaign.origins else "the base"
            lines.append(Text(f"worse than {than} for: {output.some_of(worse, NAMES_SHOWN)}", style="red"))
        if silent := [each.agent_name for each in self.clients if each.report == "none"]:
            owners = "its owner" if len(silent) == 1 else "their owners"
            means = "the means are over the others" if len(silent) < len(self.clients) else "so there are no means"
            text = f"losses withheld by {owners}: {output.some_of(silent, NAMES_SHOWN)}; {means}"
            lines.append(Text(text, style="yellow"))
        return lines

    def worse(self) -> list[str]:
        """The agents whose held-out loss is above that of adapter 0, the worst first, with the difference."""
        losers = [each for each in self.clients if each.worse_than_base]
        by_name = {each.agent_name: each.held_out[HELD_OUT_LOSS] - each.base[HELD_OUT_LOSS] for each in losers}
        return [f"{name} ({by_name[name]:+.4f})" for name in sorted(by_name, key=by_name.__getitem__, reverse=True)]

    def _shown(self) -> Sequence[ClientView]:
        """The clients that fit: of too many, those that need attention come before others."""
        if self.n_shown is None or len(self.clients) <= self.n_shown:
            return self.clients
        order = sorted(self.clients, key=lambda each: (not _needs_attention(each), each.client_number))
        return sorted(order[: self.n_shown], key=lambda each: each.client_number)

    def _note(self, client: ClientView) -> str:
        notes = []
        if client.worse_than_base:
            notes.append("worse")
        if client.held_round is not None:
            notes.append(f"its owner holds the update of round {client.held_round}")
        if self._evaluates and client.evaluation in _NOTES:
            notes.append(_NOTES[client.evaluation])
            if client.evaluated_adapter is not None:
                notes.append(f"loss of adapter {client.evaluated_adapter}")
        elif client.report == "none":
            notes.append(_NOTES[EvaluationState.WITHHELD])
        return ", ".join(notes)


def _needs_attention(client: ClientView) -> bool:
    return bool(client.worse_than_base) or client.evaluation is EvaluationState.FAILED


def _change(client: ClientView) -> str:
    """The difference of its held-out loss from that of adapter 0; empty if there is none."""
    now, base = client.held_out.get(HELD_OUT_LOSS), client.base.get(HELD_OUT_LOSS)
    return f"{now - base:+.4f}" if now is not None and base is not None and client.evaluated_adapter != 0 else ""


def _course(client: ClientView, metric: Metric) -> str:
    """A metric at the start and now, as "50.0% → 62.5%"; empty if there is none."""
    now, base = client.held_out.get(metric.name), client.base.get(metric.name)
    if now is None:
        return ""
    begin = f"{metric.text(base)} → " if base is not None and client.evaluated_adapter != 0 else ""
    return begin + metric.text(now)
