"""Whether what a task gives is what the run stands on: a task of one's own is code that nobody else has read."""

import math
from collections import Counter
from collections.abc import Sequence
from numbers import Real

from agent.errors import AgentError
from fedloom.errors import EvaluationError, FedloomError
from fedloom.evaluation.asking.models import Model, NoChatTemplate
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.tasks.base import HarnessFailed, Item, Outcome, Task

_OF_RUNS = (AgentError, FedloomError, OSError, NoChatTemplate, NoIsolation, HarnessFailed)
"""What a task may let through: it says what happened to the run, and not to the task's code."""


def checked_outcomes(task: Task, items: Sequence[Item], model: Model) -> list[Outcome]:
    """Run a task, and check its outcomes.

    Raises EvaluationError, which names the task, if outcomes are not one or more for each item, or hold no numbers; and
    if the code of a task of one's own fails. Raises what the model raises.
    """
    try:
        outcomes = task.run(items, model)
        problem = _problem(task, items, outcomes)
    except _OF_RUNS:
        raise
    except (Exception, SystemExit) as error:
        if task.defined_in is None:
            raise
        raise EvaluationError(f"{_named(task)}: its code failed: {type(error).__name__}: {error}") from error
    if problem:
        raise EvaluationError(f"{_named(task)}: {problem}")
    return outcomes


def _named(task: Task) -> str:
    return f"{task.name} of {task.defined_in}" if task.defined_in is not None else task.name


def _problem(task: Task, items: Sequence[Item], outcomes: Sequence[Outcome]) -> str:
    """What is wrong with outcomes; empty if nothing is."""
    wanted, found = {item.id for item in items}, Counter(outcome.item for outcome in outcomes)
    if missing := wanted - found.keys():
        return f"{len(missing):,} of {len(items):,} items have no outcome, such as {min(missing)!r}"
    if others := found.keys() - wanted:
        return f"an outcome is of {min(others)!r}, which is no item of this run"
    if len(set(found.values())) > 1:
        return "some items have more outcomes than others"
    shares = {metric.name for metric in task.metrics if metric.kind == "mean" and metric.is_share}
    for outcome in outcomes:
        for name, value in outcome.values.items():
            number: object = value
            if not isinstance(number, Real):
                return f"{name} of {outcome.item!r} is {value!r}, and no number"
            if name in shares and math.isfinite(value) and not 0 <= value <= 1:
                return (
                    f"{name} of {outcome.item!r} is {float(value):g}; a share is from 0 to 1, or its metric is no share"
                )
    return ""
