"""PubMedQA: yes, no or maybe, by an abstract."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fedloom.evaluation.harness.running import Sample
from fedloom.evaluation.harness.task import HarnessTask, likeliest
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns, Row, rows_of
from fedloom.evaluation.tasks.files.formats import Content
from fedloom.evaluation.tasks.files.source import Source

LABELS = ("yes", "no", "maybe")
_WHERE = "from github.com/pubmedqa/pubmedqa (data)"
_ALL = DataFile("pubmedqa/ori_pqal.json", (), 1000, _WHERE, "MIT")
_TEST = DataFile("pubmedqa/test_ground_truth.json", (), 500, _WHERE, "MIT")


class PubMedQa(HarnessTask):
    """The 500 test questions: those that the file of true answers names."""

    name = "pubmedqa"
    title = "PubMedQA"
    yaml = "pubmedqa"
    origin = "PubMedQA (Jin et al. 2019, MIT); format of lm-evaluation-harness (MIT)"
    files = (_ALL, _TEST)
    n_published = 500
    metrics = (
        TaskMetric("acc", "accuracy", "the likeliest of yes, no and maybe after the question is right", chance=1 / 3),
        TaskMetric("f1_macro", "F1, macro", "mean of the F1 of yes, no and maybe", "labels", labels=LABELS),
    )

    def read(self, source: Source) -> list[Item]:
        """The test questions. Raises BadData if the file of all questions lacks one, or has another answer."""
        found = source.content(_ALL)
        questions = _questions(found)
        source.count(_ALL, len(questions), found)
        truth = source.content(_TEST)
        if not isinstance(truth.value, dict):
            raise BadData(f"{truth.path} does not name answers by question")
        source.count(_TEST, len(truth.value), truth)
        items = []
        for name, answer in truth.value.items():
            if name not in questions:
                raise BadData(f"{found.path} lacks question {name}, which {truth.path} names")
            question, contexts, of_all = questions[name]
            if answer not in LABELS or of_all not in (None, answer):
                raise BadData(
                    f"{truth.path}: the answer to {name} is not that of {found.path}, or none of yes, no, maybe"
                )
            content = {"abstract": "\n".join(contexts), "question": question, "answer": LABELS.index(answer)}
            items.append(Item(name, "", content))
        return items

    def label(self, row: Row, sample: Sample) -> tuple[str, str]:
        """The true and the likeliest answer."""
        return LABELS[row["answer"]], LABELS[likeliest(sample)]


def _questions(content: Content) -> dict[str, tuple[str, list[str], str | None]]:
    """Question, contexts and answer by id: of the authors' file, or of rows at the hub."""
    try:
        if isinstance(content.value, dict):
            return {str(name): _of_authors(row) for name, row in content.value.items()}
        rows = rows_of(content, Columns())
        ids = [str(row["pubid"] if "pubid" in row else row["id"]) for row in rows]
        if twice := [name for name, n in Counter(ids).items() if n > 1]:
            raise BadData(f"{content.path} has {', '.join(twice[:3])} more than once")
        return {name: _of_hub(row) for name, row in zip(ids, rows, strict=True)}
    except (KeyError, TypeError, AttributeError):
        raise BadData(f"{content.path} is in no layout of PubMedQA that is known") from None


def _of_authors(row: Mapping[str, Any]) -> tuple[str, list[str], str | None]:
    return row["QUESTION"], _contexts(row["CONTEXTS"]), row.get("final_decision")


def _of_hub(row: Mapping[str, Any]) -> tuple[str, list[str], str | None]:
    if "context" not in row:
        return _of_authors(row)
    return row["question"], _contexts(row["context"]["contexts"]), row.get("final_decision")


def _contexts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError
    return value
