"""MMLU: questions with four options, 57 subjects, five examples each."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.evaluation.harness.rows import Row
from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns, rows_of
from fedloom.evaluation.tasks.files.known_files import known
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.general.mmlu_subjects import SUBJECTS
from fedloom.evaluation.tasks.options import counted_from_zero, letter_index

_N_PUBLISHED = {"stem": 3153, "humanities": 4705, "social_sciences": 3077, "other": 3107}
_WHERE = "from github.com/hendrycks/test (data.tar), or cais/mmlu at the hub"
_N_CELLS = 6


class Mmlu(HarnessTask):
    """All subjects, or those of one category. The mean over items weighs subjects by their size."""

    yaml = "mmlu"
    shots = 5
    origin = "MMLU (Hendrycks et al. 2021, MIT); format of lm-evaluation-harness (MIT)"
    metrics = (
        TaskMetric("acc", "accuracy", "the likeliest of the letters A to D after the question is right", chance=0.25),
    )

    def __init__(self, category: str | None = None) -> None:
        """category: a key of SUBJECTS; None for all."""
        super().__init__()
        self.name = f"mmlu_{category}" if category else "mmlu"
        self.title = f"MMLU, {category.replace('_', ' ')}" if category else "MMLU"
        categories = [category] if category else list(SUBJECTS)
        self.subjects = [subject for each in categories for subject in SUBJECTS[each]]
        self.n_published = sum(_N_PUBLISHED[each] for each in categories)
        self.files = [_file(subject, split) for split in ("test", "dev") for subject in self.subjects]

    def read(self, source: Source) -> list[Item]:
        """The test rows of all subjects; each must be there."""
        return [
            Item(f"{subject}/{number}", subject, row)
            for subject in self.subjects
            for number, row in enumerate(_rows(source, subject, "test"))
        ]

    def read_shots(self, source: Source, items: Sequence[Item]) -> Mapping[str, Sequence[Row]]:  # noqa: ARG002
        """The first five rows of each subject's dev file."""
        shots = {}
        for subject in self.subjects:
            test, dev = _file(subject, "test"), _file(subject, "dev")
            found = _rows(source, subject, "dev")
            if len(found) < self.shots:
                raise BadData(f"{dev.path} has {len(found)} rows, and {self.shots} are needed as examples")
            if source.digests[source.path(test)] == source.digests[source.path(dev)]:
                raise BadData(f"{test.path} and {dev.path} are the same file: one is of the wrong split")
            shots[subject] = found[: self.shots]
        return shots


def _file(subject: str, split: str) -> DataFile:
    path = f"mmlu/{split}/{subject}_{split}.csv"
    return DataFile(path, known(path), 5 if split == "dev" else None, _WHERE, "MIT")


def _rows(source: Source, subject: str, split: str) -> list[dict[str, Any]]:
    file = _file(subject, split)
    content = source.content(file)
    if content.layout == "cells":
        rows = [_of_cells(row, content.place(index)) for index, row in enumerate(content.value)]
    else:
        found = rows_of(content, Columns(texts=("question",), values=("choices", "answer")))
        answers = counted_from_zero([row["answer"] for row in found], 4, content.path)
        rows = [
            {"question": row["question"], "choices": _four(row["choices"], content.place(index)), "answer": answer}
            for index, (row, answer) in enumerate(zip(found, answers, strict=True))
        ]
    source.count(file, len(rows), content)
    return [{**row, "subject": subject.replace("_", " ")} for row in rows]


def _of_cells(cells: Sequence[str], place: str) -> dict[str, Any]:
    if len(cells) != _N_CELLS:
        raise BadData(f"{place} is not a question, four options and a letter")
    return {"question": cells[0], "choices": list(cells[1:5]), "answer": letter_index(cells[5], place)}


def _four(choices: Any, place: str) -> list[str]:
    if not isinstance(choices, list) or len(choices) != 4 or not all(isinstance(each, str) for each in choices):
        raise BadData(f"{place} does not have four options")
    return choices
