"""CRASS: what would have happened, with three or four options."""

import random
from collections.abc import Sequence
from typing import Any

from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.formats import Content
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.options import LETTERS

SEED = 0
"""Of the order of the options."""
_OF_AUTHORS = DataFile(
    "crass/CRASS_FTM_main_data_set.csv",
    n_rows=274,
    where="from github.com/apergo-ai/CRASS-data-set",
    licence="Apache-2.0",
    is_text=True,
)
_OF_BIG_BENCH = DataFile(
    "crass/crass_ai_task.json",
    n_rows=44,
    where="from BIG-bench: benchmark_tasks/crass_ai/task.json, 44 of the questions",
    licence="Apache-2.0",
    instead_of=_OF_AUTHORS.path,
)


class Crass(HarnessTask):
    """The authors' file, or where that is not there the part of it that BIG-bench has."""

    name = "crass"
    title = "CRASS"
    yaml = "crass"
    origin = "CRASS (Frohberg and Binder 2022, Apache-2.0); format of Fedloom"
    files = (_OF_AUTHORS, _OF_BIG_BENCH)
    metrics: Sequence[TaskMetric] = ()
    n_published = 274

    def __init__(self) -> None:
        super().__init__()
        self._set_chance(1 / 4)

    def read(self, source: Source) -> list[Item]:
        """The questions, each with its options in an order of its own."""
        file = source.first_of(_OF_AUTHORS, _OF_BIG_BENCH)
        if file is _OF_BIG_BENCH:
            rows = _of_big_bench(source.content(file))
            source.notes.append("the 44 questions of BIG-bench's part of CRASS, and not all 274")
        else:
            rows = _of_authors(source.text(file))
        source.count(file, len(rows))
        self.n_published = file.n_rows or len(rows)
        items = [
            Item(str(number), "", _shuffled(question, options, number))
            for number, (question, options) in enumerate(rows)
        ]
        self._set_chance(sum(1 / len(options) for _, options in rows) / len(rows))
        return items

    def _set_chance(self, chance: float) -> None:
        rule = "the likeliest of the letters after the question is right; options are in an order drawn by a seed"
        self.metrics = (TaskMetric("acc", "accuracy", rule, chance=chance),)


def _shuffled(question: str, options: Sequence[str], number: int) -> dict[str, Any]:
    """A row. options: the right one first."""
    order = list(range(len(options)))
    random.Random(f"{SEED} {number}").shuffle(order)  # noqa: S311 - reproducible, not secret
    choices = [options[place] for place in order]
    return {"question": question, "choices": choices, "letters": list(LETTERS[: len(order)]), "answer": order.index(0)}


def _of_authors(text: str) -> list[tuple[str, list[str]]]:
    """Questions with their options, the right one first. Cells without quotes: two ids, premise, question, options."""
    _, *rows = [line.split(";") for line in text.splitlines() if line.strip(";")] or [[]]
    if len(rows) > 1 and len(rows[-1]) < min(map(len, rows[:-1])):
        raise BadData(f"{_OF_AUTHORS.path}: the last row breaks off; the file is truncated")
    found = []
    for number, cells in enumerate(rows, 1):
        place = f"{_OF_AUTHORS.path}: row {number}"
        if len(cells) < 5 or not cells[4].strip():
            raise BadData(f"{place} has no right option; is the file truncated?")
        options = [cell.strip() for cell in cells[4:] if cell.strip()]
        found.append((f"{cells[2].strip()} {cells[3].strip()}", _checked(options, place)))
    return found


def _of_big_bench(content: Content) -> list[tuple[str, list[str]]]:
    examples = content.value.get("examples") if isinstance(content.value, dict) else None
    if not isinstance(examples, list):
        raise BadData(f"{content.path} has no examples")
    rows = []
    for number, example in enumerate(examples, 1):
        place = f"{content.path}: example {number}"
        scores = example.get("target_scores") if isinstance(example, dict) else None
        if not isinstance(scores, dict) or sorted(map(str, scores.values())) != ["0"] * (len(scores) - 1) + ["1"]:
            raise BadData(f"{place} does not have one right option")
        options = sorted(scores, key=lambda option: -scores[option])
        if not isinstance(example.get("input"), str):
            raise BadData(f"{place} has no text as input")
        rows.append((example["input"], _checked(options, place)))
    return rows


def _checked(options: list[str], place: str) -> list[str]:
    if not 3 <= len(options) <= 4 or len(set(options)) != len(options):
        raise BadData(f"{place} has {len(set(options))} different options, and not three or four")
    return options
