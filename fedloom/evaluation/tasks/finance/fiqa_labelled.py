"""FiQA 2018, task 1, in the edition with labels: other rows than the test of the edition with scores."""

from collections.abc import Sequence
from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items
from fedloom.evaluation.tasks.files.columns import Columns, Row
from fedloom.evaluation.tasks.files.source import Source, Table
from fedloom.evaluation.tasks.finance.corpora import Corpus, checked_label, item
from fedloom.evaluation.tasks.finance.fiqa import KINDS

_N_TEXTS = 235
_PREFIX = "Text: "


class FiqaLabelled(Corpus):
    """The split test, 235 texts: a CSV of texts, or JSON lines with ten prompts to each text, of which one is kept."""

    name = "fiqa_labelled"
    n_published = _N_TEXTS
    title = "FiQA-SA, labelled edition"
    files = (
        DataFile(
            "fiqa_sa_csv/test.csv",
            n_rows=_N_TEXTS,
            where="the split test of the data set TheFinAI/flare-fiqasa, with sentence and label",
            licence="not stated",
        ),
        DataFile(
            "fiqa_sa/test.jsonl",
            n_rows=10 * _N_TEXTS,
            where="data/fiqasa/test.jsonl of the repository chancefocus/PIXIU",
            licence="not stated",
            instead_of="fiqa_sa_csv/test.csv",
        ),
    )

    def load(self, data: Path) -> Items:
        plain, prompted = self.files
        source = Source(data)
        source.notes.append("the labelled edition: not the test of the edition with scores")
        if source.first_of(plain, prompted) is prompted:
            items = _prompted(source.table(prompted, Columns(texts=("text", "label"), values=("conversations",))))
        else:
            items = _plain(source.table(plain, Columns(texts=("sentence", "label"))))
            source.notes.append("it has no formats: all texts are asked as news")
        return source.items(items, self.n_published)


def _plain(table: Table) -> Sequence[Item]:
    """Only the two columns: copies of the file carry answers of other models beside them."""
    return [
        item(place, row["sentence"], checked_label(row["label"], table.place(place)))
        for place, row in enumerate(table.rows)
    ]


def _prompted(table: Table) -> Sequence[Item]:
    items: dict[str, Item] = {}
    for place, row in enumerate(table.rows):
        where = table.place(place)
        text, label = row["text"].removeprefix(_PREFIX), checked_label(row["label"], where)
        earlier = items.setdefault(text, item(place, text, label, KINDS[_format(row, where)]))
        if earlier.content["label"] != label:
            raise BadData(f"{where}: the text has another label than in an earlier row")
    return list(items.values())


def _format(row: Row, where: str) -> str:
    """What the row's own prompt calls its text."""
    try:
        ask = str(row["conversations"][0]["value"]).partition("\n")[0]
    except (LookupError, TypeError):
        raise BadData(f"{where}: conversations holds no prompt") from None
    for name in KINDS:
        if name in ask:
            return name
    raise BadData(f"{where}: the prompt speaks of neither a post nor a headline")
