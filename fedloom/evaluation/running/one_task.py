"""Runs one task over all models."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fedloom.evaluation.asking.models import NoChatTemplate
from fedloom.evaluation.asking.replies import StoredModel
from fedloom.evaluation.judging.open_judge import OpenJudge
from fedloom.evaluation.results import ModelResult, TaskResult
from fedloom.evaluation.running.checked import checked_outcomes
from fedloom.evaluation.running.folder import write_items
from fedloom.evaluation.running.ready import ReadyTask
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.statistics.numbers import not_run, numbers_of
from fedloom.evaluation.statistics.pairs import difference_of
from fedloom.evaluation.tasks.base import HarnessFailed, Outcome
from fedloom.evaluation.tasks.chat.judged_task import JudgedTask
from shared.digest import sha256_hex

Tell = Callable[[int, str, int, int], None]
"""Called with a model's place and name, its requests with a reply, and how many requests there are."""


def run_task(
    ready: ReadyTask,
    models: Sequence[StoredModel],
    seed: int,
    folder: Path,
    tell: Tell,
    judge: OpenJudge | None = None,
) -> TaskResult:
    """Run a task. If one model has no number because it cannot be run, none has: only pairs are compared.

    Raises OSError, and what the models raise.

    Args:
        ready: with its items.
        models: the first is the one that the others are compared with.
        seed: of the resamples.
        folder: of the results.
        tell: receives progress.
        judge: with its stored replies; None if there is none.
    """
    if judge is not None and isinstance(ready.task, JudgedTask):
        ready.task.begin(judge, models[0])
    outcomes: list[list[Outcome]] = []
    lines: list[ModelResult] = []
    for place, model in enumerate(models):
        began = time.monotonic()
        model.on_done = partial(tell, place, model.facts.name)
        if judge is not None:
            judge.on_done = partial(tell, place, f"{model.facts.name}, by the judge")
        try:
            outcomes.append(checked_outcomes(ready.task, ready.items, model))
        except (NoChatTemplate, NoIsolation, HarnessFailed) as error:
            nothing = without_numbers(ready, [each.facts.name for each in models], str(error))
            return replace(nothing, is_void=not isinstance(error, NoChatTemplate))
        lines.append(_line(ready, model.facts.name, outcomes, seed, time.monotonic() - began))
    for model, found in zip(models, outcomes, strict=True):
        write_items(folder, ready.task.name, model.facts.name, found)
    numbers = [number for line in lines for number in line.numbers]
    reason = "" if any(number.value is not None for number in numbers) else numbers[0].not_run
    judged = ready.task.judge_facts if isinstance(ready.task, JudgedTask) else None
    return replace(ready.facts, models=lines, not_run=reason, judge=judged)


def _line(ready: ReadyTask, name: str, outcomes: Sequence[Sequence[Outcome]], seed: int, seconds: float) -> ModelResult:
    """What the last model gave, compared with the first one."""
    task, own = ready.task, outcomes[-1]
    others = task.metrics if len(outcomes) > 1 and not task.compares_models else ()
    return ModelResult(
        model=name,
        numbers=numbers_of(task, own, ready.facts.n_published, seed),
        differences=[difference_of(task, metric, outcomes[0], own, seed) for metric in others],
        prompts_sha256=sha256_hex("".join(each.prompt_sha256 for each in own).encode()),
        seconds=seconds,
    )


def without_numbers(ready: ReadyTask, models: Sequence[str], reason: str) -> TaskResult:
    """The result of a task that is not run. models: their names."""
    numbers = not_run(ready.task, reason, ready.facts.n_published)
    return replace(ready.facts, not_run=reason, models=[ModelResult(model=name, numbers=numbers) for name in models])
