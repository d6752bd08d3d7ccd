"""``fedloom compare``: runs algorithms and baselines side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.comparison.baselines import Baselines
from fedloom.errors import ComparisonError, FieldError, InvalidOption
from shared.system.cores import n_cores
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from fedloom.comparison.comparison import Comparison
    from fedloom.comparison.results import Results
    from fedloom.comparison.running.progress import ComparisonProgress

_CSV_FILE, _PLOT_FILE = "results.csv", "plot.png"


def compare(
    file: Annotated[Path, typer.Argument(metavar="COMPARISON", help="A comparison file; see docs/comparing.md.")],
    algorithms: Annotated[str, typer.Option(help="`all`, or names separated by commas.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted up from the campaign's.")] = 3,
    baselines: Annotated[
        Baselines,
        typer.Option(help="Baselines: each client alone, all data in one place (pooled), both (all), or none."),
    ] = Baselines.ALL,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPU threads in total, by default every core; a campaign takes compute.threads of agent.toml."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The comparison's folder. By default comparisons/NAME.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Delete the folder's content and start over.")] = False,
    run_untrusted_code: Annotated[
        bool,
        typer.Option(
            "--run-untrusted-code",
            help="Run code that a model wrote in evaluation tasks without a sandbox, with the rights of this user.",
        ),
    ] = False,
    tried: Annotated[bool, typer.Option("--tried", help="Show all hyperparameters that were tried, too.")] = False,
    max_trainings: Annotated[
        int, typer.Option(min=1, metavar="N", help="Refuse a comparison that may need more trainings than this.")
    ] = 300,
    as_json: AsJson = False,
) -> None:
    """Compare algorithms and baselines: equal steps for all, scores on the same rows and by the same evaluation tasks.

    Baselines are the base model, each client alone, and all data in one
    place. For each of them hyperparameters are chosen from the file's grid,
    with the first seed: rates, parameters, any field of the campaign. They
    are chosen by a metric on validation rows, or by one of an evaluation task
    on items that the table has nothing of.

    The same command again continues a stopped run. More algorithms, seeds
    or grid values run only what is missing.

    Example: fedloom compare comparison.yaml --algorithms fedavg,fedadam
    """
    from agent.configuration.settings import load_settings
    from fedloom.cli.campaign.commands import read_spec
    from fedloom.comparison.comparison import Comparison
    from fedloom.comparison.spec import read_comparison
    from fedloom.simulation.clients import limits_in_words
    from shared.campaign.file import located

    make_files_private()  # the folder holds every client's rows
    try:
        spec = read_comparison(file)
    except OSError as error:
        raise InvalidOption(f"{file}: {error.strerror}") from error
    campaign, settings = read_spec(spec.campaign), load_settings(spec.settings)
    budget = threads or n_cores()
    folder = out or Path("comparisons") / spec.name
    first = campaign.training.seed
    try:
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
            run_untrusted_code=run_untrusted_code,
        )
    except FieldError as error:
        raise located(file, error.problems) from error
    _check_size(comparison, max_trainings)
    with comparison:
        limits = limits_in_words(settings.policy)
        results = _run(comparison, folder, limits, output.console(stderr=as_json))
    _show(results, folder, as_json=as_json, tried=tried)


def _check_size(comparison: "Comparison", limit: int) -> None:
    """Raise ComparisonError if there may be more trainings than the limit."""
    if (n := sum(comparison.n_trainings)) > limit:
        raise ComparisonError(
            f"the comparison may need {n:,} trainings, more than {limit:,}; give fewer values in grid, fewer "
            f"algorithms, seeds or --baselines, or allow them with --max-trainings {n}"
        )


def _names(option: str) -> list[str]:
    """The algorithms that the option names. Raises ComparisonError."""
    from shared import algorithms

    known = algorithms.names()
    if option == "all":
        # the reference algorithm first, then the others in alphabetical order
        return sorted(known, key=lambda name: (name != "fedavg", name))
    names = [name.strip() for name in option.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise ComparisonError(f"unknown algorithm {', '.join(unknown)}; choose from {', '.join(known)}")
    if not names:
        raise ComparisonError("--algorithms is empty; give names separated by commas, or `all`")
    return list(dict.fromkeys(names))


def _run(comparison: "Comparison", folder: Path, limits: str, console: "Console") -> "Results":
    """Run the trials, with their progress on the console. limits: what the clients accept, in words."""
    from rich.live import Live
    from rich.text import Text

    console.print(Text.assemble((visible_line(comparison.spec.name), "bold"), f", in {folder}"))
    console.print(Text(limits, style="dim"), soft_wrap=True)
    choosing, others = comparison.n_trainings
    more = f", and {others} with the other seeds" if others else ""
    n = choosing + others
    console.print(f"up to {n} training{'' if n == 1 else 's'}: {choosing} with the first seed{more}", soft_wrap=True)
    for note in comparison.notes:
        console.print(f"note: {visible_line(note)}", soft_wrap=True)
    printed: set[tuple[str, int]] = set()

    def print_line(progress: "ComparisonProgress") -> None:
        """Print a line for each tenth of a stage, for output that is not a terminal."""
        tenth = 10 * progress.done // max(progress.total, 1)
        if (progress.stage, tenth) not in printed:
            printed.add((progress.stage, tenth))
            console.print(f"{progress.stage}: {progress.done}/{progress.total}")

    def on_stop() -> None:
        output.say("stopping…", err=True)

    try:
        if not console.is_terminal:
            return comparison.run(print_line, on_stop)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            return comparison.run(lambda progress: live.update(_screen(progress), refresh=True), on_stop)
    except KeyboardInterrupt:
        output.say("stopped; run the same command again to continue", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _screen(progress: "ComparisonProgress") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from fedloom.cli.bar import Bar

    line = output.grid()
    bar = Bar(total=max(progress.total, 1), completed=progress.done, width=24)
    line.add_row(progress.stage, bar, f"{progress.done}/{progress.total}")
    running = [
        Text(f"  {name}  " + (f"{fraction:.0%}" if fraction < 1 else "scoring"), style="dim")
        for name, fraction in sorted(progress.running.copy().items())
    ]
    return Group(line, *running)


def _show(results: "Results", folder: Path, *, as_json: bool, tried: bool) -> None:
    from rich.text import Text

    from fedloom.comparison.showing import report
    from fedloom.comparison.showing.csv_file import write_results
    from fedloom.comparison.showing.verdict import finding
    from fedloom.comparison.tasks.tables import not_run, task_tables

    write_results(results, folder / _CSV_FILE)
    written = [folder / _CSV_FILE]
    try:
        from fedloom.comparison.showing.plot import plot
    except ModuleNotFoundError:
        output.say("fedloom: no figure: matplotlib is not installed; run: pip install 'fedloom[plot]'", err=True)
    else:
        plot(results, folder / _PLOT_FILE)
        written.append(folder / _PLOT_FILE)
    if as_json:
        output.print_json(report.as_json(results))
        return
    console = output.console()
    console.print(report.table(results), Text(f"\n{report.below_table(results)}", style="dim"))
    for table in task_tables(results):
        console.print("", table)
    if tried and results.chosen_by is not None:
        console.print("", report.tried_table(results))
    for remark in results.remarks:
        console.print(f"note: {visible_line(remark)}", soft_wrap=True)
    for name, reason in not_run(results).items():
        console.print(f"{name}: not run: {visible_line(reason)}", soft_wrap=True)
    for failure in _grouped([failure for result in results.methods for failure in result.failures]):
        console.print(f"failed: {visible_line(failure)}", style="red", soft_wrap=True)
    if sentence := finding(results):
        console.print(Text(sentence))
    console.print(f"wrote {' and '.join(map(str, written))}", soft_wrap=True)


def _grouped(failures: Sequence[str]) -> list[str]:
    """Failures of trials, "TRIAL: REASON; see FOLDER", one for each reason."""
    groups: dict[str, list[str]] = {}
    for failure in failures:
        reason, _, _folder = failure.partition(": ")[2].partition("; see ")
        groups.setdefault(reason, []).append(failure)
    return [
        first + (f" (and {len(others)} more with the same reason)" if others else "")
        for first, *others in groups.values()
    ]
