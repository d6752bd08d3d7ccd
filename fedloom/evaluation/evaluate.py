"""An evaluation from adapters' folders to results: what ``fedloom evaluate`` and ``fedloom.evaluate`` run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fedloom.adapters.local import read_adapter_folder
from fedloom.errors import EvaluationError
from fedloom.evaluation.asking.adapters import check_fit, opened_models
from fedloom.evaluation.asking.replies import stored
from fedloom.evaluation.data.training_rows import TrainingRows
from fedloom.evaluation.judging.judge import Judge
from fedloom.evaluation.nearest import did_you_mean
from fedloom.evaluation.results import Results
from fedloom.evaluation.running.folder import alone_in
from fedloom.evaluation.running.leaving import what_leaves
from fedloom.evaluation.running.plan import OnProgress, Plan, Progress
from fedloom.evaluation.running.ready import check_some_can_run, prepare
from fedloom.evaluation.running.run import before_run, run_ready
from fedloom.evaluation.running.telling import Telling
from fedloom.evaluation.statistics.averages import Average
from fedloom.evaluation.suites import AverageSection, read_suite
from fedloom.evaluation.tasks.base import Task
from fedloom.evaluation.tasks.chat.judged_task import JudgedTask
from fedloom.evaluation.tasks.registry import find_task
from shared.text.words import repeated

_T = TypeVar("_T")


def planned(
    suites: str | Sequence[str] | None,
    tasks: Sequence[str] | None,
    *,
    data: Path,
    limit: int | None = None,
    seed: int = 0,
    untrusted: bool = False,
    training: Sequence[TrainingRows] = (),
    judge: Judge | None = None,
) -> Plan:
    """What to run. A task that is in several suites runs once. Raises EvaluationError, CampaignFileError and OSError.

    Args:
        suites: names or files of suites, or a single one; None to name tasks alone.
        tasks: names of tasks, besides those of the suites.
        data: folder of evaluation data.
        limit: most items a task; None for all.
        seed: of the draw of items, of sampled replies and of resamples.
        untrusted: whether code that a model wrote may run without a sandbox.
        training: rows that a model was trained on, in which items are looked for.
        judge: of answers to open-ended questions; None: the tasks that need one are not run.
    """
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise EvaluationError(f"a limit is a whole number from 1 on, and not {limit!r}")
    if not isinstance(seed, int) or seed < 0:
        raise EvaluationError(f"a seed is a whole number from 0 on, and not {seed!r}")
    if isinstance(tasks, str):
        raise EvaluationError(f"tasks are a list of names, and not the text {tasks!r}")
    names = [suites] if isinstance(suites, str) else list(suites or ())
    chosen: dict[str, Task] = {}
    averages: dict[str, Average] = {}
    titles = []
    for name in names:
        found, folder = read_suite(name)
        of_suite = _found(found.tasks, folder)
        titles.append(found.title)
        _add(chosen, of_suite)
        _add(averages, {each.name: each for section in found.averages for each in averages_of(section, of_suite)})
    _add(chosen, _found(tasks or (), None))
    if not chosen:
        raise EvaluationError("name at least one task, or a suite")
    for task in chosen.values():
        task.run_untrusted_code, task.seed = untrusted, seed
        if isinstance(task, JudgedTask):
            task.judge = judge
    if judge is not None and not any(isinstance(task, JudgedTask) for task in chosen.values()):
        raise EvaluationError("a judge is named, and none of the tasks asks one: see --suite chat")
    suite, title = ", ".join(names), ", ".join(titles)
    return Plan(list(chosen.values()), list(averages.values()), suite, data, limit, seed, training, title, judge)


def _found(names: Sequence[str], folder: Path | None) -> dict[str, Task]:
    """Tasks by name. Raises EvaluationError if one is unknown, or two have one name."""
    found = [find_task(name, folder) for name in names]
    if twice := repeated(task.name for task in found):
        raise EvaluationError(f"two tasks have the name {twice}: results would hold one of them")
    return {task.name: task for task in found}


def _add(known: dict[str, _T], more: Mapping[str, _T]) -> None:
    """Add what is not known. Raises EvaluationError if something else has the same name."""
    for name, each in more.items():
        if name in known and _identity(known[name]) != _identity(each):
            what = "tasks" if isinstance(each, Task) else "means over tasks"
            raise EvaluationError(f"two {what} have the name {name}: results would hold one of them")
        known.setdefault(name, each)


def _identity(each: object) -> object:
    """What makes two tasks of one name the same: their class, and the file of one's own. A mean is what it says."""
    if not isinstance(each, Task):
        return each
    return type(each).__qualname__, each.defined_in and each.defined_in.resolve()


def averages_of(section: AverageSection, tasks: Mapping[str, Task]) -> Iterator[Average]:
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
        n_models = 1 + len(read)
        ready = prepare(plan, n_models)
        check_some_can_run(ready)
        leaves = what_leaves(plan.judge, ready, n_models)
        telling.tell(Progress("", "", 0, 0, before_run(plan, ready, []), leaves=leaves))
        with opened_models(read, base, threads, telling.tell_child) as opened:
            models = stored(opened, folder)
            check_fit(models)
            return run_ready(plan, ready, models, folder, telling.tell)
