"""GSM8K: word problems of grade school, with five worked examples."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fedloom.evaluation.harness.rows import Row
from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source

_WHERE = "from github.com/openai/grade-school-math, or openai/gsm8k at the hub"
_TEST = DataFile("gsm8k/test.jsonl", (), 1319, _WHERE, "MIT")
_TRAIN = DataFile("gsm8k/train.jsonl", (), 7473, _WHERE, "MIT")
_RULE = "exact match after dropping commas and dollar signs of"

_NUMBER = re.compile(r"#### \$?-?[\d.,]*\d")


class Gsm8k(HarnessTask):
    """GSM8K. The examples are the first five rows of the training set, the same before each question."""

    name = "gsm8k"
    title = "GSM8K"
    yaml = "gsm8k"
    shots = 5
    origin = "GSM8K (Cobbe et al. 2021, MIT); format and rules of lm-evaluation-harness (MIT)"
    files = (_TEST, _TRAIN)
    n_published = 1319
    metrics = (
        TaskMetric("strict", "strict match", f'{_RULE} the number after "####"'),
        TaskMetric("flexible", "flexible match", f"{_RULE} the last number"),
    )
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {
        "strict": ("strict", "exact_match"),
        "flexible": ("flexible", "exact_match"),
    }

    def read(self, source: Source) -> list[Item]:
        """The test questions."""
        return [Item(str(number), "", row) for number, row in enumerate(_rows(source, _TEST))]

    def read_shots(self, source: Source, items: Sequence[Item]) -> Mapping[str, Sequence[Row]]:
        """The first five rows of the training set. Raises BadData if one of them is a test question."""
        shots = _rows(source, _TRAIN)[: self.shots]
        asked = {item.content["question"] for item in items}
        if len(shots) < self.shots or any(shot["question"] in asked for shot in shots):
            raise BadData(f"{_TEST.path} and {_TRAIN.path}: one is of the wrong split, or has too few rows")
        return {"": shots}


def _rows(source: Source, file: DataFile) -> list[dict[str, Any]]:
    table = source.table(file, Columns(texts=("question", "answer")))
    for index, row in enumerate(table.rows):
        if not _NUMBER.search(row["answer"]):
            raise BadData(f'{table.place(index)} has no number after "####"')
    return [{"question": row["question"], "answer": row["answer"]} for row in table.rows]
