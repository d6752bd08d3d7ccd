"""``fedloom evaluate``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedloom.cli import output
from fedloom.cli.evaluation import options
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.errors import InvalidOption
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from fedloom.evaluation.results import Results
    from fedloom.evaluation.running.plan import Plan

DEFAULT_SUITE = "paper"


def evaluate(
    adapters: options.Adapters = None,
    suite: options.Suite = None,
    tasks: options.Tasks = None,
    limit: options.Limit = None,
    data: options.Data = options.DEFAULT_DATA,
    base: options.Base = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    fetch: options.Fetch = False,
    run_untrusted_code: options.RunUntrustedCode = False,
    training: options.Training = None,
    judge_url: options.JudgeUrl = None,
    judge_model: options.JudgeModel = None,
    judge_max_tokens: options.JudgeMaxTokens = None,
    list_: options.List = False,
    as_json: AsJson = False,
) -> None:
    """Measure a base model and adapters on public benchmarks, each number with its interval.

    All models get the same items. A run that was stopped goes on at the item
    with the same command: nothing is asked twice. Missing data is "not run:
    put FILE there", and makes no mean smaller. Code that a model writes runs
    in bubblewrap. Nothing leaves this machine, unless --judge-url names a
    judge: what is sent to it is said first.
    Needs `pip install 'fedloom\\[agent,eval]'`.

    Example: fedloom evaluate clinic-notes-adapter --suite medical --limit 100
    """
    from fedloom.cli.evaluation.listing import print_tasks
    from fedloom.evaluation.evaluate import planned
    from fedloom.evaluation.judging.judge import judge_of
    from fedloom.evaluation.tasks.registry import TASKS

    if suite is not None and tasks is not None:
        message = "give --suite or --tasks, and not both"
        raise typer.BadParameter(message, param_hint="--tasks")
    names = [name.strip() for name in tasks.split(",") if name.strip()] if tasks is not None else None
    if list_ and suite is None and names is None:
        names = list(TASKS)
    suite = None if names is not None else suite or DEFAULT_SUITE
    plan = planned(
        suite,
        names,
        data=data,
        limit=limit,
        seed=seed,
        untrusted=run_untrusted_code,
        training=training or (),
        judge=judge_of(judge_url, judge_model, judge_max_tokens),
    )
    if fetch:
        _fetch(plan)
    if list_:
        print_tasks(plan, as_json=as_json, names_suites=not suite and not tasks)
        return
    if base == "":
        message = "the base model has no name"
        raise InvalidOption(message)
    if not adapters and base is None:
        message = "name an adapter's folder, or a base model with --base"
        raise InvalidOption(message)
    folder = out or Path("evaluations") / _name(adapters or [], base)
    try:
        results = _run(adapters or [], plan, folder, base, threads)
    except KeyboardInterrupt:
        output.say("stopped; the same command goes on where it was", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    _show(results, folder, as_json=as_json)


def _run(adapters: Sequence[Path], plan: "Plan", folder: Path, base: str | None, threads: int | None) -> "Results":
    from fedloom.cli.evaluation.live import live_table
    from fedloom.evaluation.evaluate import evaluate_adapters

    with live_table() as on_progress:
        return evaluate_adapters(adapters, plan, folder, base=base, threads=threads, on_progress=on_progress)


def _name(adapters: Sequence[Path], base: str | None) -> str:
    """The name of the results' folder: that of the adapters, or of the base model."""
    if adapters:
        return "+".join(dict.fromkeys(path.resolve().name for path in adapters))[:100]
    return Path(base or "").name or "base"


def _show(results: "Results", folder: Path, *, as_json: bool) -> None:
    from fedloom.cli.evaluation.live import left_out, results_table
    from fedloom.evaluation.report import CSV_FILE, PAGE_FILE
    from fedloom.evaluation.results import RESULTS_FILE

    if as_json:
        output.say((folder / RESULTS_FILE).read_text(encoding="utf-8").rstrip())
        return
    output.console().print(results_table(results))
    for line in _averages(results):
        output.say(line)
    for line in _judges(results):
        output.say(line)
    for task in results.tasks:
        if task.overlap:
            output.say(f"warning: {task.overlap}", err=True)
    if output.console(stderr=True).is_terminal:  # elsewhere each task has its line by now
        for task in results.tasks:
            if task.not_run:
                output.say(f"{task.name}: not run: {visible_line(task.not_run)}", err=True)
            elif said := left_out(task):
                output.say(f"{task.name}{said}", err=True)
    output.say(
        f"in {folder}: {RESULTS_FILE}, {PAGE_FILE}, {CSV_FILE}; shares in per cent, ± is half of the 95 % interval",
        err=True,
    )


def _averages(results: "Results") -> Iterator[str]:
    """A line for each mean over tasks, with all models."""
    from fedloom.evaluation.words import average_in_words

    for values in zip(*results.averages.values(), strict=True):
        told = list(map(average_in_words, values))
        named = [f"{visible_line(model)} {value}" for model, value in zip(results.averages, told, strict=True)]
        said = told[0] if {each.value for each in values} == {None} and len(set(told)) == 1 else ", ".join(named)
        yield f"{values[0].average.title}: {said}"


def _judges(results: "Results") -> Iterator[str]:
    """Who rated which tasks, and when."""
    found: dict[str, list[str]] = {}
    for task in results.tasks:
        if task.judge is not None:
            found.setdefault(str(task.judge), []).append(task.name)
    for judge, tasks in found.items():
        yield f"{', '.join(tasks)}: rated by {visible_line(judge)}; scores of two judges cannot be compared"


def _fetch(plan: "Plan") -> None:
    """Download what is missing, from the hub. Raises OSError."""
    from fedloom.evaluation.data.fetching import fetch_missing

    for line in fetch_missing(plan.tasks, plan.data):
        output.say(line, err=True)
