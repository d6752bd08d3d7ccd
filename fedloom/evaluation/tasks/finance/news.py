"""News With GPT Instructions: news with one of seven labels, which are made three."""

from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Items
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.finance.corpora import Corpus, item

_LABELS = {
    "strong negative": "negative",
    "moderately negative": "negative",
    "mildly negative": "neutral",
    "neutral": "neutral",
    "mildly positive": "neutral",
    "moderately positive": "positive",
    "strong positive": "positive",
}


class NewsWithInstructions(Corpus):
    """The split test, 4,048 rows."""

    name = "nwgi"
    n_published = 4048
    title = "NWGI"
    files = (
        DataFile(
            "nwgi/test.parquet",
            n_rows=4048,
            where="the split test of the data set oliverwang15/news_with_gpt_instructions",
            licence="not stated",
        ),
    )

    def load(self, data: Path) -> Items:
        (file,) = self.files
        source = Source(data)
        table = source.table(file, Columns(texts=("news",), values=("label",)))
        items = []
        for place, row in enumerate(table.rows):
            label = _LABELS.get(str(row["label"]).strip().lower())
            if label is None:
                raise BadData(f"{table.place(place)}: the label is none of {', '.join(_LABELS)}")
            items.append(item(place, row["news"], label))
        return source.items(items, self.n_published)
