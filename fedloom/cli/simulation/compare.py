"""``fedloom compare``: algorithms and baselines side by side."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.owner_commands import agent_errors_reported
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.comparison.baselines import Baselines
from fedloom.errors import ComparisonError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from fedloom.comparison.comparison import Comparison, Look
    from fedloom.comparison.results import Results

_CSV_FILE, _PLOT_FILE = "results.csv", "plot.png"


def compare(
    file: Annotated[Path, typer.Argument(metavar="COMPARISON", help="A comparison file; see docs/comparing.md.")],
    algorithms: Annotated[str, typer.Option(help="`all`, or names with commas between.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="How many, counted up from the campaign's own.")] = 3,
    baselines: Annotated[
        Baselines, typer.Option(help="Each client alone, all data in one place (pooled), both, or neither.")
    ] = Baselines.ALL,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU threads in all, by default every core; each campaign takes compute.threads of agent.toml."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The comparison's folder. By default comparisons/NAME.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start over, and delete what the folder holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run every algorithm, each client alone, and all data in one place, with equal steps; score all on the same rows.

    Rates are chosen from the file's grid on validation rows, with the first seed.

    Run again, it goes on where it was stopped; further algorithms, seeds and rates only add what is missing.
    """
    from agent.settings import load_settings
    from fedloom.cli.campaign.commands import read_spec
    from fedloom.comparison.comparison import Comparison
    from fedloom.comparison.spec import read_comparison
    from shared.campaign_file import CampaignFileError

    with agent_errors_reported():
        try:
            spec = read_comparison(file)
        except CampaignFileError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(ExitCode.USAGE) from None
        campaign, settings = read_spec(spec.campaign), load_settings(spec.settings)
        budget = threads or os.cpu_count() or 1
        folder = out or Path("comparisons") / spec.name
        first = campaign.training.seed
        comparison = Comparison(
            spec,
            campaign,
            settings,
            _names(algorithms),
            range(first, first + seeds),
            folder,
            baselines=baselines,
            at_once=max(1, budget // (settings.compute.threads or budget)),
            force=force,
        )
        _show(_run(comparison, folder, output.console(stderr=as_json)), folder, as_json=as_json)


def _names(asked: str) -> list[str]:
    """The algorithms of the option. Raises ComparisonError."""
    from shared import algorithms

    known = algorithms.names()
    if asked == "all":
        # the plain one first; the rest follow in the order of the alphabet
        return sorted(known, key=lambda name: (name != "fedavg", name))
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise ComparisonError(f"unknown algorithm {', '.join(unknown)}; known are {', '.join(known)}")
    if not names:
        raise ComparisonError("--algorithms names none")
    return list(dict.fromkeys(names))


def _run(comparison: "Comparison", folder: Path, console: "Console") -> "Results":
    from rich.live import Live

    console.print(f"[bold]{comparison.spec.name}[/], in {folder}")
    told: set[tuple[str, int]] = set()

    def tell(look: "Look") -> None:
        """A line for each tenth of a stage, where no screen can be redrawn."""
        tenth = 10 * look.done // max(look.total, 1)
        if (look.stage, tenth) not in told:
            told.add((look.stage, tenth))
            console.print(f"{look.stage}: {look.done}/{look.total}")

    try:
        if not console.is_terminal:
            return comparison.run(tell)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            return comparison.run(lambda look: live.update(_screen(look), refresh=True))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None


def _screen(look: "Look") -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row(
        look.stage, ProgressBar(total=max(look.total, 1), completed=look.done, width=24), f"{look.done}/{look.total}"
    )
    working = [
        Text(f"  {name}  " + (f"{share:.0%}" if share < 1 else "scoring"), style="dim")
        for name, share in sorted(look.working.copy().items())
    ]
    return Group(line, *working)


def _show(results: "Results", folder: Path, *, as_json: bool) -> None:
    results.write_csv(folder / _CSV_FILE)
    written = [folder / _CSV_FILE]
    try:
        from fedloom.comparison.plot import plot
    except ModuleNotFoundError:
        typer.echo("fedloom: no picture: matplotlib is not installed; run: pip install 'fedloom[plot]'", err=True)
    else:
        plot(results, folder / _PLOT_FILE)
        written.append(folder / _PLOT_FILE)
    if as_json:
        output.print_json(results.as_json())
        return
    console = output.console()
    seeds = f"mean ± standard deviation over seeds {', '.join(map(str, results.seeds))}; ★ the best algorithm"
    console.print(results.table(), f"\n[dim]{seeds if len(results.seeds) > 1 else '★ the best algorithm'}[/]")
    for failure in [failure for outcome in results.outcomes for failure in outcome.failures]:
        console.print(f"failed: {failure}", style="red", soft_wrap=True)
    if finding := results.finding():
        console.print(finding)
    console.print(f"wrote {' and '.join(map(str, written))}", soft_wrap=True)
