"""What is asked of trained models: the tasks for the table, and those that hyperparameters are chosen by."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from agent.data.source import DataSource
from fedloom.comparison.criterion import METRICS_OF, Criterion
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.comparison.tasks.items import Halves
from fedloom.comparison.tasks.scores import key_of
from fedloom.comparison.tasks.section import TasksSection
from fedloom.errors import ComparisonError, FieldError, HarnessMissing
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.judging.judge import judge_of
from fedloom.evaluation.nearest import did_you_mean
from fedloom.evaluation.running.plan import Plan
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.tasks.base import Task
from fedloom.evaluation.tasks.chat.judged_task import NoJudge


@dataclass(frozen=True)
class AskedTasks:
    """The evaluation tasks of a comparison.

    Args:
        table: what is asked for the table.
        choosing: what hyperparameters are chosen by, with other items; None if they are chosen on rows.
        notes: what to know of the items.
    """

    table: TaskEvaluation
    choosing: TaskEvaluation | None
    notes: list[str]


def plan_of(section: TasksSection, training: DataSource, *, run_untrusted_code: bool = False) -> Plan:
    """The tasks of a comparison file.

    Raises ComparisonError if a task runs code and there is no sandbox, or asks a judge and none is named;
    EvaluationError, CampaignFileError of a suite's file, and OSError.

    Args:
        section: of the comparison file, with absolute paths.
        training: the owners' data, in which items are looked for.
        run_untrusted_code: run code that a model wrote without a sandbox.
    """
    judge = section.judge
    plan = planned(
        section.suites,
        section.tasks,
        data=section.data,
        limit=section.limit,
        seed=section.seed,
        untrusted=run_untrusted_code,
        training=[training],
        judge=judge_of(judge.url, judge.model, judge.max_tokens) if judge is not None else None,
    )
    _check(plan.tasks)
    on_rows = {metric for metrics in METRICS_OF.values() for metric in metrics}
    if clash := next((mean.name for mean in plan.averages if mean.name in on_rows), None):
        raise ComparisonError(f"evaluation: the mean {clash} has the name of a metric on rows; give it another title")
    return plan


def criterion_in(plan: Plan | None, field: str, metric: str) -> Criterion:
    """The criterion of a metric of tasks. Raises FieldError if there is none. field: where it is named."""
    known = {each.metric: each for each in _criteria(plan)} if plan is not None else {}
    if metric not in known:
        without = "there is no evaluation, whose tasks would have it" if plan is None else "no task has it"
        hint = did_you_mean(metric, known) or f"; metrics of tasks are {', '.join(known)}" if known else ""
        on_rows = ", ".join(dict.fromkeys(metric for metrics in METRICS_OF.values() for metric in metrics))
        raise FieldError([((field,), f"{metric} is no metric on rows ({on_rows}), and {without}{hint}")])
    return known[metric]


def asked_tasks(plan: Plan, choose: Criterion, rank: Criterion | None) -> AskedTasks:
    """Read the data of all tasks, with other items for choosing than for the table.

    Raises FieldError if a task cannot run that something is chosen or ranked by, ComparisonError if none can,
    HarnessMissing, EvaluationError and OSError.

    Args:
        plan: all tasks.
        choose: what hyperparameters are chosen by.
        rank: what rows of the table are ranked by; None for the first metric that has a value.
    """
    if not choose.tasks:
        table, choosing, notes = TaskEvaluation(plan), None, list[str]()
    else:
        halves = Halves(plan.seed)
        needed = [task for task in plan.tasks if task.name in choose.tasks]
        means = [mean for mean in plan.averages if mean.name == choose.metric]
        choosing = TaskEvaluation(replace(plan, tasks=needed, averages=means, training=(), part=halves.for_choosing))
        _check_runs("choose", choose, choosing)
        table = TaskEvaluation(replace(plan, part=halves.for_table))
        notes = [*_about_items(choosing, table, halves)]
    table.check()
    if rank is not None:
        _check_runs("rank", rank, table)
    return AskedTasks(table, choosing, notes)


def _criteria(plan: Plan) -> Iterator[Criterion]:
    for task in plan.tasks:
        for metric in task.metrics:
            key = key_of(task.name, metric.name)
            yield Criterion(key, metric.best == -1, f"the items of {task.name}", (task.name,))
    for mean in plan.averages:
        yield Criterion(mean.name, mean.metric.best == -1, f"the items of {', '.join(mean.tasks)}", tuple(mean.tasks))


def _check(tasks: Sequence[Task]) -> None:
    """Raise ComparisonError if programs cannot run here, whether or not their data is there."""
    reasons: dict[str, NoIsolation | NoJudge] = {}
    for task in tasks:
        try:
            with suppress(HarnessMissing):  # which matters only to tasks with data: preparing these raises it
                task.check()
        except (NoIsolation, NoJudge) as error:
            reasons[task.name] = error
    if reasons:
        first = next(iter(reasons.values()))
        raise ComparisonError(f"evaluation, {', '.join(reasons)}: {first}") from first


def _check_runs(field: str, criterion: Criterion, evaluation: TaskEvaluation) -> None:
    """Raise FieldError if a task of a criterion cannot run."""
    missing = {name: reason for name, reason in evaluation.reasons.items() if name in criterion.tasks}
    if missing:
        reasons = "; ".join(f"{name}: not run: {reason}" for name, reason in missing.items())
        raise FieldError([((field,), f"{criterion.metric} needs what is not here: {reasons}")])


def _about_items(choosing: TaskEvaluation, table: TaskEvaluation, halves: Halves) -> Iterator[str]:
    for name, n in choosing.n_items.items():
        yield f"{name}: {n} items are for choosing, and {table.n_items.get(name, 0)} others for the table"
    for name, n in halves.left_out.items():
        if name not in choosing.n_items:
            yield f"{name}: {n} of its items are for choosing, and left out of the table"
