"""TruthfulQA: which of several answers a model finds likelier, the true ones or common errors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source

_FILE = DataFile(
    "truthfulqa/mc_task.json",
    (),
    817,
    "from github.com/sylinrl/TruthfulQA (data/mc_task.json), or truthfulqa/truthful_qa at the hub",
    "Apache-2.0",
)
_EDITION_OF_2025 = 790
"""Rows of the authors' later edition."""


class _TruthfulQa(HarnessTask):
    origin = "TruthfulQA, its preamble (Lin et al. 2021, Apache-2.0); format and rules of lm-evaluation-harness (MIT)"
    files = (_FILE,)
    n_published = 817
    targets: str

    def read(self, source: Source) -> list[Item]:
        """The questions with their options, the true ones first."""
        table = source.table(_FILE, Columns(texts=("question",), values=(self.targets,)))
        if len(table.rows) == _EDITION_OF_2025:
            source.notes.append("the edition of 790 questions, whose numbers are not those of the 817")
        items = []
        for number, row in enumerate(table.rows):
            place = table.place(number)
            choices, labels = _options(row[self.targets], place)
            if labels[0] != 1 or 0 not in labels:
                raise BadData(f"{place} has no true option, or no false one")
            content = {"question": row["question"], "choices": choices, "labels": labels, "answer": 0}
            items.append(Item(str(number), "", content))
        return items


class TruthfulQa1(_TruthfulQa):
    """One true option among several."""

    name = "truthfulqa_mc1"
    title = "TruthfulQA, mc1"
    yaml = "truthfulqa_mc1"
    targets = "mc1_targets"
    metrics: Sequence[TaskMetric] = ()

    def __init__(self) -> None:
        super().__init__()
        self._set_chance(None)

    def read(self, source: Source) -> list[Item]:
        """As above; each question has one true option."""
        items = super().read(source)
        for item in items:
            if sum(item.content["labels"]) != 1:
                raise BadData(f"{_FILE.path}: row {int(item.id) + 1} has several true options")
        self._set_chance(sum(1 / len(item.content["choices"]) for item in items) / len(items))
        return items

    def _set_chance(self, chance: float | None) -> None:
        self.metrics = (TaskMetric("acc", "accuracy", "the likeliest option is the true one", chance=chance),)


class TruthfulQa2(_TruthfulQa):
    """Several true and several false options."""

    name = "truthfulqa_mc2"
    title = "TruthfulQA, mc2"
    yaml = "truthfulqa_mc2"
    targets = "mc2_targets"
    metrics = (TaskMetric("mc2", "share of truth", "share of the options' probability that is on true ones"),)
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {"mc2": ("none", "mc2")}


def share_of_truth(row: Mapping[str, Any], replies: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """The share of the probability of all options that the true ones have. replies: as the harness has them."""
    log_probs = [log_prob for log_prob, _ in replies]
    largest = max(log_probs)
    weights = [math.exp(each - largest) for each in log_probs]
    true = math.fsum(weight for weight, label in zip(weights, row["labels"], strict=True) if label == 1)
    return {"mc2": true / math.fsum(weights)}


def _options(targets: Any, place: str) -> tuple[list[str], list[int]]:
    """Options and labels, the true ones first: of {option: label}, or of two lists as the hub has them."""
    of_hub = isinstance(targets, dict) and all(isinstance(targets.get(name), list) for name in ("choices", "labels"))
    if of_hub:
        pairs = list(zip(targets["choices"], targets["labels"], strict=False))
    elif isinstance(targets, dict):
        pairs = list(targets.items())
    else:
        pairs = []
    if len(pairs) < 2 or any(label not in (0, 1) or not option for option, label in pairs):
        raise BadData(f"{place} does not have options that are true or false")
    pairs.sort(key=lambda pair: -pair[1])
    return [str(option) for option, _ in pairs], [int(label) for _, label in pairs]
