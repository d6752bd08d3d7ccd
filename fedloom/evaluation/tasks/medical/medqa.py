"""MedQA: questions of the US medical licensing examination with four options."""

from typing import Any

from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns, Row, check_row
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.options import LETTERS, counted_from_zero, letter_index

_FILE = DataFile(
    "medqa/medqa_us_4opt_test.jsonl",
    (),
    1273,
    "from the authors' data_clean/questions/US/4_options/phrases_no_exclude_test.jsonl, or "
    "GBaker/MedQA-USMLE-4-options at the hub",
    "MIT",
)

_OF_HARNESS = Columns(texts=("sent1", "ending0", "ending1", "ending2", "ending3"), values=("label",))
_OF_AUTHORS = Columns(texts=("question",), values=("options", "answer_idx"))


class MedQa(HarnessTask):
    """MedQA."""

    name = "medqa"
    title = "MedQA"
    yaml = "medqa"
    origin = "MedQA (Jin et al. 2020, MIT); format of lm-evaluation-harness (MIT)"
    files = (_FILE,)
    n_published = 1273
    metrics = (
        TaskMetric("acc", "accuracy", "the likeliest of the letters A to D after the question is right", chance=0.25),
    )

    def read(self, source: Source) -> list[Item]:
        """The questions, in the authors' layout or that of the harness."""
        table = source.table(_FILE, Columns())
        is_of_harness = "ending0" in table.rows[0]
        columns = _OF_HARNESS if is_of_harness else _OF_AUTHORS
        for index, row in enumerate(table.rows):
            check_row(row, columns, table.place(index))
        if is_of_harness:
            answers = counted_from_zero([row["label"] for row in table.rows], 4, table.path)
            contents = [
                {"question": row["sent1"], "choices": [row[f"ending{i}"] for i in range(4)], "answer": answer}
                for row, answer in zip(table.rows, answers, strict=True)
            ]
        else:
            contents = [_row(row, table.place(index)) for index, row in enumerate(table.rows)]
        return [Item(str(number), "", content) for number, content in enumerate(contents)]


def _row(row: Row, place: str) -> dict[str, Any]:
    options = row["options"]
    if not isinstance(options, dict) or sorted(options) != list(LETTERS):
        raise BadData(f"{place} does not have the options A to D")
    answer = letter_index(row["answer_idx"], place)
    if row.get("answer") not in (None, options[LETTERS[answer]]):
        raise BadData(f"{place}: the text of the answer is not that of its letter; was the file edited?")
    return {"question": row["question"], "choices": [options[letter] for letter in LETTERS], "answer": answer}
