"""The table of rounds of ``fedloom campaign show``: losses, and the metric by which the best adapter is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.console import Console
from rich.text import Text

from fedloom.cli import output
from fedloom.measured import Coverage, Means, label, over_clients, units
from shared.metrics import HELD_OUT_LOSS, TRAIN_LOSS_MEAN, Metric
from shared.wire.campaigns import CampaignDetail, RoundView

_STAR = ""
"""Title of the column that marks the best adapter."""


@dataclass(frozen=True)
class RoundTable:
    """Rounds of a campaign, oldest first. means, coverage: as ``means_by_round`` returns them."""

    campaign: CampaignDetail
    rounds: Sequence[RoundView]
    means: Means
    coverage: Coverage

    def print(self, console: Console, n_shown: int | None) -> None:
        """Print the table, the units, and how many clients the means are over. n_shown: most rounds; None for all."""
        losses, best = self.means.get(HELD_OUT_LOSS, {}), self.means.get(self._best.name, {}) if self._best else {}
        if not self.rounds and not losses and not best:
            return
        console.print()
        shown = self.rounds[-n_shown:] if n_shown is not None else self.rounds
        rows = [self._round_cells(None)] if 0 in losses or 0 in best else []
        rows += [self._round_cells(each) for each in shown]
        titles = self._round_titles(rows, console.width)
        table = output.table(*titles, right=[each for each in titles if each not in ("STATE", _STAR)])
        for cells in rows:
            table.add_row(*(cells[title] for title in titles))
        console.print(table)
        if len(shown) < len(self.rounds):
            console.print(f"{len(self.rounds) - len(shown)} earlier rounds; --all shows them", style="dim")
        names = (TRAIN_LOSS_MEAN, HELD_OUT_LOSS, *([self._best.name] if self._best else []))
        metrics = [metric for metric in self.campaign.metrics if metric.name in names]
        star = (
            "" if self.campaign.best_adapter is None else f"* best by {label(self._best)}" if self._best else "* best"
        )
        console.print("; ".join(filter(None, (star, units(metrics)))), style="dim")
        console.print("\n".join(self._covered(metrics)), style="dim")

    @cached_property
    def _best(self) -> Metric | None:
        """The metric of the best adapter; None if it is the held-out loss, which has its column anyway."""
        name = self.campaign.spec.evaluation.best
        return next((each for each in self.campaign.metrics if each.name == name != HELD_OUT_LOSS), None)

    def _round_titles(self, rows: Sequence[dict[str, str | Text]], width: int) -> list[str]:
        """The columns of the table of rounds. If a further metric makes it too wide, the least important ones go."""
        best = [label(self._best).upper()] if self._best else []
        titles = ["ROUND", "STATE", "UPDATES", "TRAIN LOSS", "HELD-OUT LOSS", *best, _STAR, "LR", "TOOK"]
        widths = {title: max(len(title), *(len(cells[title]) for cells in rows)) + 2 for title in titles}
        for title in ("LR", "TOOK", "UPDATES", "TRAIN LOSS") if best else ():
            if sum(widths[each] for each in titles) - 2 > width:
                titles.remove(title)
        return titles

    def _round_cells(self, each: RoundView | None) -> dict[str, str | Text]:
        """The cells of a round by their titles; those of adapter 0 for None."""
        number = each.number if each is not None else 0
        took = (each.closed_at - each.opened_at).total_seconds() if each is not None and each.closed_at else None
        cells: dict[str, str | Text] = {
            "ROUND": str(number),
            "STATE": output.state(each.state) if each is not None else "start",
            "UPDATES": _updates(each) if each is not None else "",
            "TRAIN LOSS": output.loss(self.means.get(TRAIN_LOSS_MEAN, {}).get(number)) if each is not None else "",
            "HELD-OUT LOSS": output.loss(self.means.get(HELD_OUT_LOSS, {}).get(number)),
            _STAR: "*" if number == self.campaign.best_adapter else "",
            "LR": f"{each.learning_rate:.2g}" if each is not None else "",
            "TOOK": output.duration(took) if took is not None else "",
        }
        if self._best is not None:
            value = self.means.get(self._best.name, {}).get(number)
            cells[label(self._best).upper()] = self._best.text(value) if value is not None else ""
        return cells

    def _covered(self, metrics: Sequence[Metric]) -> list[str]:
        """How many clients are in the latest mean of each metric."""
        lines = []
        for metric in metrics:
            if means := self.means.get(metric.name):
                of = f"round {max(means)}" if metric.name == TRAIN_LOSS_MEAN else f"adapter {max(means)}"
                if over := over_clients(self.coverage, metric.name, max(means)):
                    lines.append(f"{label(metric)} of {of}: {over}")
        return lines


def _updates(campaign_round: RoundView) -> str:
    """Updates of the drawn clients out of those drawn, and late updates of the round before."""
    contributors, sampled = campaign_round.contributors, campaign_round.sampled
    n_late = len(set(contributors) - set(sampled))
    late = f" + {n_late} late" if n_late else ""
    return f"{len(contributors) - n_late}/{len(sampled)}{late}"
