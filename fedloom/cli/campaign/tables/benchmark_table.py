"""Benchmarks of a campaign's adapters: at the start, of the best and of the newest adapter."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from fedloom.adapters.benchmarks_shown import reasons_grouped, stop_standing, unoffered
from fedloom.cli import output
from fedloom.measured import main_benchmark_metrics
from shared.metrics import Metric
from shared.text.plain_text import visible_line
from shared.wire.adapters import AdapterView
from shared.wire.benchmarks import BenchmarkView
from shared.wire.campaigns import CampaignDetail

AGENTS_SHOWN = 5
NAMES_SHOWN = 8


@dataclass(frozen=True)
class BenchmarkTable:
    """Benchmarks of a campaign. adapters: those on which benchmarks ran, by number."""

    campaign: CampaignDetail
    adapters: Sequence[AdapterView]

    def print(self, console: Console) -> None:
        """Print the table and what did not run, who runs benchmarks, what nobody runs, and how the stop stands."""
        measured = [each for each in self.adapters if each.benchmarks]
        if measured:
            console.print()
            self._print_values(console, measured)
        lines = [Text(line, style="dim") for line in (self._who_runs(), self._stop()) if line]
        if names := unoffered(self.campaign):
            words = (
                f"no agent runs {output.some_of(names, NAMES_SHOWN)}: owners allow it in policy.suites of agent.toml"
            )
            lines.append(Text(f"{words}, and have its data", style="yellow"))
        if lines and not measured:
            console.print()
        for line in lines:
            console.print(line)

    def _print_values(self, console: Console, measured: Sequence[AdapterView]) -> None:
        columns = self._columns(measured)
        titles = [title for title, _ in columns]
        table = output.table("BENCHMARK", *titles, "ITEMS", "RAN AT", right=[*titles, "ITEMS"], fold=["RAN AT"])
        start, newest = columns[0][1], measured[-1]
        for metric in main_benchmark_metrics(self.campaign):
            if not any(metric.name in adapter.metrics for _, adapter in columns):
                continue
            view = self._view(metric, newest) or next(
                (found for _, each in reversed(columns) if (found := self._view(metric, each)) is not None), None
            )
            cells = [_value(metric, adapter, start) for _, adapter in columns]
            ran = (items_in_words(view), visible_line(view.agent_name or "")) if view is not None else ("", "")
            table.add_row(metric.name, *cells, *ran)
        if table.row_count:
            console.print(table)
        told = set(unoffered(self.campaign))
        for reason, names in reasons_grouped([each for each in newest.benchmarks if each.name not in told]).items():
            words = f"not run on adapter {newest.number}: {output.some_of(names, NAMES_SHOWN)}: {visible_line(reason)}"
            console.print(Text(words, style="yellow"))

    def _columns(self, measured: Sequence[AdapterView]) -> list[tuple[str, AdapterView]]:
        """The adapters that are shown, each with its title: the first, the best, the newest, each once."""
        roles: dict[int, list[str]] = {}
        if measured[0].number == 0:
            roles[0] = ["BASE" if not self.campaign.origins else "ADAPTER 0"]
        by_number = {each.number: each for each in measured}
        best = self.campaign.best_adapter
        if best is not None and best in by_number:
            roles.setdefault(best, []).append("BEST")
        roles.setdefault(measured[-1].number, []).append("NEWEST")
        return [
            (", ".join(words) + (f" ({number})" if number else ""), by_number[number])
            for number, words in sorted(roles.items())
        ]

    def _view(self, metric: Metric, adapter: AdapterView) -> BenchmarkView | None:
        """What ran for a metric; None if nothing did, or if it is a mean over benchmarks."""
        of = metric.name.partition(".")[0]
        return next((each for each in adapter.benchmarks if each.name == of and not each.not_run), None)

    def _who_runs(self) -> str:
        """Which agents run benchmarks, and which of them."""
        asked = self.campaign.spec.evaluation.benchmarks
        agents = []
        for each in self.campaign.participants:
            offered = [name for name in asked if name in each.benchmarks]
            if offered and not each.revoked:
                names = "all" if len(offered) == len(asked) else output.some_of(offered, NAMES_SHOWN)
                agents.append(f"{each.agent_name} ({names})")
        return f"benchmarks run at: {output.some_of(agents, AGENTS_SHOWN)}" if agents else ""

    def _stop(self) -> str:
        return "" if self.campaign.state.is_final else stop_standing(self.campaign)


def items_in_words(view: BenchmarkView) -> str:
    """How many items count, of those that were asked if some do not, and of all that are published."""
    asked = f"/{view.n_asked}" if view.n != view.n_asked else ""
    return f"{view.n}{asked} of {view.n_published}"


def _value(metric: Metric, adapter: AdapterView, start: AdapterView) -> Text:
    """A value, in red if it is worse than at the start."""
    value, than = adapter.metrics.get(metric.name), start.metrics.get(metric.name)
    if value is None:
        return Text("")
    is_worse = than is not None and metric.is_worse(value, than)
    return Text(metric.text(value), style="red" if is_worse else "")
