"""An evaluation from adapters' folders to results: what ``fedloom evaluate`` and ``fedloom.evaluate`` run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fedloom.adapters.local import read_adapter_folder
from fedloom.errors import EvaluationError
from fedloom.evaluation.asking.adapters import check_fit, opened_models
from fedloom.evaluation.results import Results
from fedloom.evaluation.running.folder import alone_in
from fedloom.evaluation.running.plan import OnProgress, Plan, Progress
from fedloom.evaluation.running.ready import ReadyTask, prepare
from fedloom.evaluation.running.run import REPLIES_FOLDER, before_run, run_ready
from fedloom.evaluation.running.telling import Telling
from fedloom.evaluation.statistics.averages import Average
from fedloom.evaluation.suites import AverageSection, read_suite
from fedloom.evaluation.tasks.registry import find_task


def planned(
    suite: str | None,
    tasks: Sequence[str] | None,
    *,
    data: Path,
    limit: int | None = None,
    seed: int = 0,
    untrusted: bool = False,
    training: Sequence[Path] = (),
) -> Plan:
    """What to run. Raises EvaluationError, CampaignFileError and OSError.

    Args:
        suite: name or file of a suite; None to name tasks.
        tasks: names of tasks, where no suite is given.
        data: folder of evaluation data.
        limit: most items a task; None for all.
        seed: of the draw of items and of resamples.
        untrusted: whether code that a model wrote may run without a sandbox.
        training: files or folders of rows that a model was trained on, in which items are looked for.
    """
    averages: list[Average] = []
    if suite is not None:
        found, folder = read_suite(suite)
        chosen = [find_task(name, folder) for name in found.tasks]
        averages = [each for section in found.averages for each in _averages(section)]
    else:
        chosen = [find_task(name) for name in tasks or ()]
    if not chosen:
        raise EvaluationError("name at least one task, or a suite")
    for task in chosen:
        task.run_untrusted_code = untrusted
    return Plan(chosen, averages, suite or "", data, limit, seed, training)


def _averages(section: AverageSection) -> Iterator[Average]:
    for metric in section.metrics:
        name = "_".join([*section.title.lower().replace(",", "").split(), metric])
        yield Average(name, f"{section.title}: {metric}", metric, section.tasks)


def evaluate_adapters(
    adapters: Sequence[Path],
    plan: Plan,
    folder: Path,
    *,
    base: str | None = None,
    threads: int | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Results:
    """Run a plan over a base model and adapters on it.

    Whatever can be wrong is found before the first task is asked: data, the sandbox, and adapters of another base.

    Raises BadAdapterFolder, EvaluationError if no task can be run or an adapter does not belong to the base model,
    TaskFailed, ChildDied, NotInstalled, HarnessMissing and OSError.

    Args:
        adapters: folders.
        plan: what is evaluated.
        folder: of the results.
        base: the base model's folder or hub id; by default what the adapters name.
        threads: of the CPU; None for every core.
        on_progress: called as often as something changes.
    """
    read = [read_adapter_folder(path) for path in adapters]
    telling = Telling(on_progress)
    with alone_in(folder):
        ready = prepare(plan)
        _check_some_can_run(ready)
        telling.tell(Progress("", "", 0, 0, before_run(plan, ready, [])))
        with opened_models(read, base, threads, telling.tell_child) as models:
            check_fit(models, folder / REPLIES_FOLDER)
            return run_ready(plan, ready, models, folder, telling.tell)


def _check_some_can_run(ready: Sequence[ReadyTask]) -> None:
    """Raise EvaluationError, with the first reason, if there is nothing to ask a model."""
    if any(each.can_run for each in ready):
        return
    first, *others = ready
    more = f"; nor can {len(others)} others, as `fedloom evaluate --list` says" if others else ""
    raise EvaluationError(f"nothing can be run: {first.task.name}: {first.facts.not_run}{more}")
