"""What an evaluation gave, as ``results.json`` has it. It holds no item's text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from fedloom.evaluation.asking.models import ModelFacts
from fedloom.evaluation.judging.facts import JudgeFacts
from fedloom.evaluation.statistics.averages import AverageValue
from fedloom.evaluation.statistics.numbers import Number
from fedloom.evaluation.statistics.pairs import Difference
from shared.system.durable import atomic_text

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class ModelResult:
    """One model in one task.

    Args:
        model: its name.
        numbers: of each metric.
        differences: to the first model, which is the base; empty for itself.
        prompts_sha256: digest over what the model was asked, in the order of the items.
        seconds: that it took in this run, without stored replies.
    """

    model: str
    numbers: Sequence[Number]
    differences: Sequence[Difference] = ()
    prompts_sha256: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class TaskResult:
    """One task.

    Args:
        name, title: the task's.
        origin: whose prompts and rules it has, with licence.
        shots: examples in each prompt.
        licences: of its data files, by path.
        digests: SHA-256 of its data files, by path.
        items: ids of the items that were drawn.
        n_published: items of the published set.
        notes: what a reader must know of the data.
        overlap: how many of the items occur in training rows; empty if none does, or no rows were given.
        models: what each model gave; empty if the task was not run.
        not_run: why it was not run; empty if it was.
        judge: who rated the answers, and when; None if nobody did. Scores of two judges cannot be compared.
        is_void: whether that is no fault of the task or the models, such as a failed sandbox: a later run may go well.
    """

    name: str
    title: str
    origin: str
    shots: int
    licences: dict[str, str]
    digests: dict[str, str] = field(default_factory=dict)
    items: Sequence[str] = ()
    n_published: int = 0
    notes: Sequence[str] = ()
    overlap: str = ""
    models: Sequence[ModelResult] = ()
    not_run: str = ""
    judge: JudgeFacts | None = None
    is_void: bool = False


@dataclass(frozen=True)
class Results:
    """A whole evaluation.

    Args:
        made_at: when this file was written.
        suite: its name or file; empty for tasks by name.
        seed: of the draw of items, and of resamples.
        limit: most items a task; None for all.
        versions: of Fedloom and the libraries that gave the numbers.
        models: the first one is the base.
        tasks: in the order of the suite.
        averages: means over tasks, by model.
        is_complete: False while tasks are left.
        title: of the suite.
    """

    made_at: datetime
    suite: str
    seed: int
    limit: int | None
    versions: dict[str, str]
    models: Sequence[ModelFacts]
    tasks: Sequence[TaskResult] = ()
    averages: dict[str, Sequence[AverageValue]] = field(default_factory=dict)
    is_complete: bool = False
    title: str = ""

    def write(self, folder: Path) -> None:
        """Write ``results.json``, atomically. Raises OSError."""
        atomic_text(folder / RESULTS_FILE, _RESULTS.dump_json(self, indent=2).decode() + "\n")


_RESULTS = TypeAdapter(Results)
