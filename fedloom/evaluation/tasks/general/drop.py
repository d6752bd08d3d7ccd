"""DROP: questions on a passage whose answers are numbers, dates or spans."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.formats import Content
from fedloom.evaluation.tasks.files.source import Source

_RULE = "of words without articles and punctuation, the best over the accepted answers; the whole reply is one span"
_FILE = DataFile(
    "drop/drop_dataset_dev.json",
    (),
    9536,
    "from allenai.org/data/drop (drop_dataset.zip), or EleutherAI/drop at the hub",
    "CC BY-SA 4.0",
)


class Drop(HarnessTask):
    """With three examples of our own."""

    name = "drop"
    title = "DROP"
    yaml = "drop"
    shots = 3
    origin = "DROP (Dua et al. 2019, CC BY-SA 4.0); rules of AllenNLP (Apache-2.0) and lm-evaluation-harness (MIT)"
    files = (_FILE,)
    metrics = (TaskMetric("em", "EM", f"exact match {_RULE}"), TaskMetric("f1", "F1", f"F1 {_RULE}"))
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {"em": ("none", "em"), "f1": ("none", "f1")}
    n_published = 9536

    def read(self, source: Source) -> list[Item]:
        """The questions of all passages. Those whose answers are all empty cannot be scored, and are refused."""
        items: list[Item] = []
        found = source.content(_FILE)
        for number, row in enumerate(_questions(found), 1):
            place = f"{found.path}: question {number}"
            answers = list(dict.fromkeys(spans for each in row["answers"] if (spans := _spans(each, place))))
            if not answers:
                raise BadData(f"{place} has no answer; the answers of tests are hidden")
            content = {
                "passage": row["passage"],
                "question": row["question"],
                "answers": [list(each) for each in answers],
            }
            items.append(Item(str(row["id"]), "", content))
        source.count(_FILE, len(items), found)
        return items


class DropWithoutExamples(Drop):
    """As lm-evaluation-harness asks it: no examples, a reply up to the first full stop."""

    name = "drop_0shot"
    title = "DROP, no examples"
    yaml = "drop_0shot"
    shots = 0


def _questions(found: Content) -> Iterator[dict[str, Any]]:
    """Questions of the authors' layout, passages by id, or of rows at the hub. Raises BadData."""
    try:
        if isinstance(found.value, dict):
            for passage in found.value.values():
                for pair in passage["qa_pairs"]:
                    answers = [pair["answer"], *(pair.get("validated_answers") or [])]
                    yield _row(pair["query_id"], passage["passage"], pair["question"], answers)
            return
        for row in found.value:
            if "answers_spans" in row:
                answers = [{"number": "", "spans": [span]} for span in row["answers_spans"]["spans"]]
            else:
                answers = [row["answer"], *_by_row(row.get("validated_answers") or {})]
            yield _row(row["query_id"], row["passage"], row["question"], answers)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise BadData(f"{found.path} is in no layout of DROP that is known") from None


def _row(name: Any, passage: Any, question: Any, answers: Sequence[Any]) -> dict[str, Any]:
    return {"id": name, "passage": str(passage), "question": str(question), "answers": answers}


def _by_row(columns: Any) -> list[Mapping[str, Any]]:
    """Answers of a table of columns, as the hub has them; a list of answers stays."""
    if isinstance(columns, list):
        return columns
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _spans(answer: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """The spans of an answer: its number, its spans, or its date; empty if it has none of them."""
    try:
        if answer.get("number") not in (None, ""):
            return (str(answer["number"]),)
        if answer.get("spans"):
            return tuple(map(str, answer["spans"]))
        date = answer.get("date") or {}
        text = " ".join(str(date.get(part) or "") for part in ("day", "month", "year")).strip()
    except (AttributeError, TypeError):
        raise BadData(f"{place} has an answer in no layout that is known") from None
    return (text,) if text else ()
