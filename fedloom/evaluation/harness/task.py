"""A task that lm-evaluation-harness runs."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate, Likelihood, Request, Scored, Text
from fedloom.evaluation.harness.rows import Part, Row
from fedloom.evaluation.harness.running import Sample, check_installed, run
from fedloom.evaluation.tasks.base import Item, Items, Outcome, Task
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.flags import flags_of
from shared.digest import sha256_of_parts

NOTHING_FOUND = "[invalid]"
"""What the harness's filters give where a reply holds no answer."""


class HarnessTask(Task):
    """Items of files of their publishers, as rows that a YAML task of the harness asks and scores.

    Args:
        yaml: (of the class) the task in ``harness/yaml``.
        scores: (of the class) for each metric, the filter and the metric of the YAML task.
        examples: what ``load`` found to stand before the items of each group; empty if the YAML task has its own.
    """

    yaml: str
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {"acc": ("none", "acc")}

    def __init__(self) -> None:
        self.examples: Mapping[str, Sequence[Row]] = {}

    @abstractmethod
    def read(self, source: Source) -> list[Item]:
        """The items. Raises DataMissing and BadData."""

    def read_shots(self, source: Source, items: Sequence[Item]) -> Mapping[str, Sequence[Row]]:  # noqa: ARG002
        """The examples before the items of each group. None where the YAML task has its own, or none at all."""
        return {}

    def load(self, data: Path) -> Items:
        """Read the items and the shots. Raises DataMissing and BadData."""
        source = Source(data)
        items = self.read(source)
        self.examples = self.read_shots(source, items)
        return source.items(items, self.n_published)

    def check(self) -> None:
        """Raise HarnessMissing if the harness is not installed."""
        check_installed()

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        """Ask and score. Raises HarnessMissing, and what the model raises."""
        if not items:
            return []
        groups: dict[str, list[Item]] = {}
        for item in items:
            groups.setdefault(item.group, []).append(item)
        names = {group: f"{self.yaml}:{group}" for group in groups}
        parts = {
            names[group]: Part([item.content for item in found], self.examples.get(group, ()))
            for group, found in groups.items()
        }
        samples = run(self.yaml, parts, model)
        outcomes = {
            item.id: self.outcome(item, sample)
            for group, found in groups.items()
            for item, sample in zip(found, samples[names[group]], strict=True)
        }
        return [outcomes[item.id] for item in items]

    def outcome(self, item: Item, sample: Sample) -> Outcome:
        """What came of an item."""
        prompt = sha256_of_parts(_texts(sample.requests))
        problem = next((reply.problem for reply in sample.replies if reply.problem), "")
        flags = _flags(sample)
        reply = next((each.text for each in sample.replies if isinstance(each, Text)), None)
        if problem:
            return Outcome(item.id, item.group, flags=flags, problem=problem, prompt_sha256=prompt)
        values = {name: float(sample.values[key]) for name, key in self.scores.items()}
        label = self.label(item.content, sample)
        return Outcome(item.id, item.group, values, label, flags=flags, prompt_sha256=prompt, reply=reply)

    def label(self, row: Row, sample: Sample) -> tuple[str, str] | None:  # noqa: ARG002
        """The true and the predicted label, for tasks with metrics over labels."""
        return None


def likeliest(sample: Sample) -> int:
    """The option with the largest log-likelihood; the first of equal ones, as the harness has it."""
    scores = [reply.log_prob for reply in sample.replies if isinstance(reply, Scored)]
    return max(range(len(scores)), key=scores.__getitem__)


def _flags(sample: Sample) -> frozenset[str]:
    flags = set()
    if any(reply.n_cut for reply in sample.replies):
        flags.add("cut")
    scores = sorted(reply.log_prob for reply in sample.replies if isinstance(reply, Scored))
    if len(scores) > 1 and scores[-1] == scores[-2]:
        flags.add("tie")
    texts = [reply for reply in sample.replies if isinstance(reply, Text)]
    flags |= {flag for reply in texts for flag in flags_of(reply)}
    if texts and sample.filtered and all(found == NOTHING_FOUND for found in sample.filtered.values()):
        flags.add("unparsed")
    return frozenset(flags)


def _texts(requests: Sequence[Request]) -> list[str]:
    texts: list[Any] = []
    for request in requests:
        match request:
            case Likelihood():
                texts += [request.context, request.continuation]
            case Generate():
                texts.append(request.prompt)
            case _:
                texts.append(request.text)
    return texts
