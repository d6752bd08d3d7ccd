"""What a task is: where its data is, how its items are asked, what each outcome says, which numbers come of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.tasks.label_metrics import label_metric


@dataclass(frozen=True)
class DataFile:
    """A file that a task reads.

    Args:
        path: below the folder of evaluation data, such as ``gsm8k/test.jsonl``.
        sha256: of the whole published file, one for each edition; empty if it is not known.
        n_rows: rows of the published file; None if unknown.
        where: how to get it, in words that a person can follow.
        licence: as its publisher states it; ``NC`` in it marks sets for research use only.
        also: other paths at which the same rows may be.
        instead_of: path of the file that this is read in the place of, where that is not there; empty if of none.
        is_text: whether it is read as plain text. Files of rows may have any layout, whose suffix tells it.
    """

    path: str
    sha256: tuple[str, ...] = ()
    n_rows: int | None = None
    where: str = ""
    licence: str = ""
    also: tuple[str, ...] = ()
    instead_of: str = ""
    is_text: bool = False


def is_for_research(licence: str) -> bool:
    """Whether a licence excludes commercial use."""
    return re.search(r"\bNC\b", licence) is not None


@dataclass(frozen=True)
class Item:
    """One item of a task.

    Args:
        id: unique in the task, and the same in every run: the file's own id, or the index of its row.
        group: subject or part, by which ``--limit`` spreads and tables group; empty if the task has none.
        content: the row as the task reads it.
    """

    id: str
    group: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Items:
    """The items of a task that are there.

    Args:
        items: in the order of the files.
        n_published: how many the published set has; more than len(items) where the file is a slice.
        digests: SHA-256 of each file that was read, by the path at which it was found.
        notes: what a reader of the numbers must know: a slice, another edition, a layout that was converted.
    """

    items: Sequence[Item]
    n_published: int
    digests: Mapping[str, str]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of one item.

    Args:
        item: its id.
        group: as the item has it.
        values: of each metric that is a mean over items, such as ``{"acc": 1.0}``. An item that cannot be scored (it
            does not fit) has none, and says why in ``problem``.
        label: the true and the predicted label, for metrics over labels such as F1; None if there are none.
        texts: prediction and reference, for metrics over the corpus such as BLEU; None if there are none.
        flags: facts that are counted and shown, such as ``unparsed``, ``empty``, ``cut``, ``timed out``.
        problem: why the item has no values; empty if it has.
        prompt_sha256: of what the model was asked.
        reply: what it answered, for the table of items; None for likelihoods.
        weights: how many judgements the value of a metric is the mean of; 1 for metrics that are not named.
        missing: why the item has no value of a metric, where it may have others.
    """

    item: str
    group: str
    values: Mapping[str, float] = field(default_factory=dict)
    label: tuple[str, str] | None = None
    texts: tuple[str, str] | None = None
    flags: frozenset[str] = frozenset()
    problem: str = ""
    prompt_sha256: str = ""
    reply: str | None = None
    weights: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


Interval = Literal["wilson", "bootstrap", "normal", "bonett-price"]


@dataclass(frozen=True)
class TaskMetric:
    """A number that a task gives.

    Args:
        name: such as ``acc``, ``f1_macro``, ``bleu``, ``pass@1``.
        title: for tables.
        rule: how it is computed, in a sentence: ``exact match of the last number after dropping commas``.
        kind: ``mean`` of ``Outcome.values[name]``, by their weights; ``compute`` gives ``labels`` and ``corpus``.
        best: 1 if more is better, -1 if less is.
        labels: all labels, for F1: a missing one counts as 0 and does not leave the mean.
        chance: value of drawing uniformly among the options; None if there are no options.
        is_share: whether it is in [0, 1], and shown in per cent; perplexity is not.
    """

    name: str
    title: str
    rule: str
    kind: Literal["mean", "labels", "corpus"] = "mean"
    best: Literal[1, -1] = 1
    labels: tuple[str, ...] = ()
    chance: float | None = None
    is_share: bool = True


COMPARED_WITH = "it is what the others are compared with"
"""Why the first model has no number in a task that compares models."""


class DataMissing(Exception):
    """Data of a task is not here. The text says which file to put where."""


class BadData(Exception):
    """A file of a task is not what it should be: truncated, edited, of a wrong split or layout."""


class HarnessFailed(Exception):
    """What runs or scores replies failed, such as the sandbox, and not the model.

    The task then has no number, for any model. To count such an item as wrong would blame the model, and to leave it
    out would give a number over other items.
    """


class Task(ABC):
    """One task. Subclasses are in files of their own, and in ``tasks.registry``."""

    name: str
    title: str
    metrics: Sequence[TaskMetric]
    files: Sequence[DataFile]
    run_untrusted_code: bool = False
    """Set by the plan: that such code runs without isolation."""
    seed: int = 0
    """Set by the plan: of sampled replies."""
    on_program: Callable[[], None] = staticmethod(lambda: None)
    """Set by whoever may stop a run: called after each program that a model wrote; what it raises ends the run."""
    defined_in: Path | None = None
    """Set by the registry: the file of a task of one's own."""
    in_chat: bool = False
    """Whether the model is asked in its chat template."""
    runs_code: bool = False
    """Whether it runs code that the model wrote, in a sandbox."""
    compares_models: bool = False
    """Whether its numbers are of pairs of models, so that the first one has none."""
    shots: int = 0
    n_published: int | None = None
    """How many items the published set has; None if it is the user's own."""
    origin: str = ""
    """Whose prompts and rules they are, with licence, for NOTICE and the table of metrics."""

    @abstractmethod
    def load(self, data: Path) -> Items:
        """Read the items below the folder of evaluation data. Raises DataMissing and BadData."""

    def check(self) -> None:  # noqa: B027
        """See whether the task can run here, before a model is loaded. Raises NoIsolation and HarnessMissing."""

    @abstractmethod
    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        """Ask the model, and score its replies, in the order of the items. Called with all items of a run at once.

        Raises NoChatTemplate, NoIsolation and HarnessFailed: then the task has no number. What the model raises ends
        the run.
        """

    def compute(self, metric: TaskMetric, outcomes: Sequence[Outcome]) -> float:
        """A metric that is no mean over items, over outcomes without a problem. It is also called on resamples.

        Metrics over labels are those of ``label_metrics``; a task of metrics over the corpus has its own.
        """
        return label_metric(metric.name, [each.label for each in outcomes if each.label is not None], metric.labels)
