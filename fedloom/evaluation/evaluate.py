"""An evaluation from adapters' folders to results: what ``fedloom evaluate`` and ``fedloom.evaluate`` run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fedloom.adapters.local import read_adapter_folder
from fedloom.errors import EvaluationError
from fedloom.evaluation.asking.adapters import check_fit, opened_models
from fedloom.evaluation.asking.replies import stored
from fedloom.evaluation.data.training_rows import TrainingRows
from fedloom.evaluation.nearest import did_you_mean
from fedloom.evaluation.results import Results
from fedloom.evaluation.running.folder import alone_in
from fedloom.evaluation.running.plan import OnProgress, Plan, Progress
from fedloom.evaluation.running.ready import check_some_can_run, prepare
from fedloom.evaluation.running.run import before_run, run_ready
from fedloom.evaluation.running.telling import Telling
from fedloom.evaluation.statistics.averages import Average
from fedloom.evaluation.suites import AverageSection, read_suite
from fedloom.evaluation.tasks.base import Task
from fedloom.evaluation.tasks.registry import find_task
from shared.text.words import repeated


def planned(
    suite: str | None,
    tasks: Sequence[str] | None,
    *,
    data: Path,
    limit: int | None = None,
    seed: int = 0,
    untrusted: bool = False,
    training: Sequence[TrainingRows] = (),
) -> Plan:
    """What to run. Raises EvaluationError, CampaignFileError and OSError.

    Args:
        suite: name or file of a suite; None to name tasks.
        tasks: names of tasks, where no suite is given.
        data: folder of evaluation data.
        limit: most items a task; None for all.
        seed: of the draw of items, of sampled replies and of resamples.
        untrusted: whether code that a model wrote may run without a sandbox.
        training: rows that a model was trained on, in which items are looked for.
    """
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise EvaluationError(f"a limit is a whole number from 1 on, and not {limit!r}")
    if not isinstance(seed, int) or seed < 0:
        raise EvaluationError(f"a seed is a whole number from 0 on, and not {seed!r}")
    if isinstance(tasks, str):
        raise EvaluationError(f"tasks are a list of names, and not the text {tasks!r}")
    sections: Sequence[AverageSection] = ()
    title = ""
    if suite is not None:
        found, folder = read_suite(suite)
        chosen = [find_task(name, folder) for name in found.tasks]
        sections, title = found.averages, found.title
    else:
        chosen = [find_task(name) for name in tasks or ()]
    if not chosen:
        raise EvaluationError("name at least one task, or a suite")
    if twice := repeated(task.name for task in chosen):
        raise EvaluationError(f"two tasks have the name {twice}: results would hold one of them")
    for task in chosen:
        task.run_untrusted_code, task.seed = untrusted, seed
    by_name = {task.name: task for task in chosen}
    averages = [average for section in sections for average in _averages(section, by_name)]
    return Plan(chosen, averages, suite or "", data, limit, seed, training, title)


def _averages(section: AverageSection, tasks: Mapping[str, Task]) -> Iterator[Average]:
    """The means of a section. Raises EvaluationError if a task does not have the metric, or has another one."""
    if missing := next((name for name in section.tasks if name not in tasks), None):
        hint = did_you_mean(missing, tasks)
        raise EvaluationError(f"{section.title}: {missing} is not among the suite's tasks{hint}")
    for name in section.metrics:
        found = []
        for task in section.tasks:
            metric = next((each for each in tasks[task].metrics if each.name == name), None)
            if metric is None:
                hint = did_you_mean(name, [each.name for each in tasks[task].metrics])
                raise EvaluationError(f"{section.title}: {task} has no metric {name}{hint}")
            found.append(metric)
        if len({(each.is_share, each.best) for each in found}) > 1:
            raise EvaluationError(f"{section.title}: {name} is not the same kind of number in all of its tasks")
        key = "_".join([*section.title.lower().replace(",", "").split(), name])
        yield Average(key, f"{section.title}: {name}", found[0], section.tasks)


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
        check_some_can_run(ready)
        telling.tell(Progress("", "", 0, 0, before_run(plan, ready, [])))
        with opened_models(read, base, threads, telling.tell_child) as opened:
            models = stored(opened, folder)
            check_fit(models)
            return run_ready(plan, ready, models, folder, telling.tell)
