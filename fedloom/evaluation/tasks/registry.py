"""All tasks by name. A task of one's own is a class in a file: see docs/evaluating.md."""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedloom.errors import EvaluationError
from fedloom.evaluation.nearest import did_you_mean
from fedloom.evaluation.tasks.base import Task, TaskMetric
from fedloom.evaluation.tasks.code.names import CODE_TASKS
from fedloom.own_code import OwnCodeFailed, attribute_of, own_code
from shared.text.words import repeated

_LONGEST = 60
_NAME = re.compile(rf"[A-Za-z0-9][\w.-]{{0,{_LONGEST - 1}}}", re.ASCII)


def _made(module: str, maker: str, *arguments: Any) -> Task:
    task: Task = getattr(importlib.import_module(f"fedloom.evaluation.tasks.{module}"), maker)(*arguments)
    return task


_SENTIMENT = [
    f"{corpus}{way}"
    for corpus in ("fpb", "fiqa", "fiqa_labelled", "tfns", "nwgi")
    for way in ("", "_fingpt", "_likelihood")
]

_ON_PUBLIC_DATA: Mapping[str, Callable[[], Task]] = {
    "mmlu": partial(_made, "general.mmlu", "Mmlu"),
    "mmlu_stem": partial(_made, "general.mmlu", "Mmlu", "stem"),
    "mmlu_humanities": partial(_made, "general.mmlu", "Mmlu", "humanities"),
    "mmlu_social_sciences": partial(_made, "general.mmlu", "Mmlu", "social_sciences"),
    "mmlu_other": partial(_made, "general.mmlu", "Mmlu", "other"),
    "bbh": partial(_made, "general.bbh", "Bbh"),
    "bbh_direct": partial(_made, "general.bbh", "BbhDirect"),
    "drop": partial(_made, "general.drop", "Drop"),
    "drop_0shot": partial(_made, "general.drop", "DropWithoutExamples"),
    "crass": partial(_made, "general.crass", "Crass"),
    "medqa": partial(_made, "medical.medqa", "MedQa"),
    "medmcqa": partial(_made, "medical.medmcqa", "MedMcqa"),
    "pubmedqa": partial(_made, "medical.pubmedqa", "PubMedQa"),
    "gsm8k": partial(_made, "general.gsm8k", "Gsm8k"),
    "truthfulqa_mc1": partial(_made, "general.truthfulqa", "TruthfulQa1"),
    "truthfulqa_mc2": partial(_made, "general.truthfulqa", "TruthfulQa2"),
    **{name: partial(_made, "finance.sentiment", "sentiment_task", name) for name in _SENTIMENT},
    "advbench": partial(_made, "safety.advbench", "AdvBench", False),
    "advbench_chat": partial(_made, "safety.advbench", "AdvBench", True),
    **CODE_TASKS,
}
_ON_OWN_ROWS: Mapping[str, Callable[[], Task]] = {
    "perplexity": partial(_made, "own.perplexity", "Perplexity"),
    "preferences": partial(_made, "own.preferences", "Preferences", False),
    "preferences_chat": partial(_made, "own.preferences", "Preferences", True),
    "rows": partial(_made, "own.instruction_rows", "InstructionRows", False),
    "rows_chat": partial(_made, "own.instruction_rows", "InstructionRows", True),
}
_BY_A_JUDGE: Mapping[str, Callable[[], Task]] = {
    name: partial(_made, "chat.names", "judged_task", name)
    for name in ("mt_bench", "mt_bench_pairs", "vicuna_bench", "vicuna_bench_pairs")
}
TASKS: Mapping[str, Callable[[], Task]] = {**_ON_PUBLIC_DATA, **_ON_OWN_ROWS, **_BY_A_JUDGE}
"""Makers of tasks by name. Nothing heavy is imported before a task is asked for."""
BENCHMARKS: Sequence[str] = tuple(_ON_PUBLIC_DATA)
"""The tasks that campaigns may name: on public data, whose items every agent can have, and without a judge."""


def find_task(name: str, folder: Path | None = None) -> Task:
    """The task of a name, or of ``FILE.py:CLASS``. Raises EvaluationError.

    folder: what a file is relative to; None: the current folder.
    """
    if name in TASKS:
        return TASKS[name]()
    file, colon, attribute = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        hint = did_you_mean(name, TASKS)
        message = f"there is no task {name}{hint or ': `fedloom evaluate --list` names all'}"
        raise EvaluationError(message)
    return _own_task((folder or Path()) / file, attribute)


def _own_task(path: Path, attribute: str) -> Task:
    try:
        found = attribute_of(path, attribute)
    except OwnCodeFailed as error:
        raise EvaluationError(str(error)) from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise EvaluationError(f"{path} has no class {attribute} that is a Task")
    try:
        with own_code():
            task = found()
    except OwnCodeFailed as error:
        raise EvaluationError(f"{path}: {attribute} cannot be made: {error}") from error
    except Exception as error:
        raise EvaluationError(f"{path}: {attribute} cannot be made: {type(error).__name__}: {error}") from error
    task.defined_in = path
    if problem := _problem(task):
        raise EvaluationError(f"{path}: {attribute}: {problem}")
    return task


def _problem(task: Task) -> str:
    """What a task of one's own lacks; empty if nothing. Its name is part of the names of files."""
    name, metrics = getattr(task, "name", None), getattr(task, "metrics", ())
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"name is {name!r}, and not letters, digits, _, - and . alone, {_LONGEST} at most"
    if not isinstance(getattr(task, "title", None), str):
        return "it has no title"
    if not metrics or not all(isinstance(each, TaskMetric) for each in metrics):
        return "metrics are no TaskMetrics, or there are none"
    if twice := repeated(metric.name for metric in metrics):
        return f"two metrics have the name {twice}"
    return ""
