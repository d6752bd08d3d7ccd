"""Twitter Financial News Sentiment: posts of which the label is a number."""

from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Items
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.finance.corpora import Corpus, item

_LABELS = {"0": "negative", "1": "positive", "2": "neutral"}
"""Bearish, bullish, neutral. Not in the order of the Financial PhraseBank's numbers."""


class TwitterNews(Corpus):
    """The split validation, 2,388 rows, which come in runs of one label."""

    name = "tfns"
    n_published = 2388
    title = "TFNS"
    files = (
        DataFile(
            "tfns/sent_valid.csv",
            n_rows=2388,
            where="sent_valid.csv of the data set zeroshot/twitter-financial-news-sentiment",
            licence="MIT",
        ),
    )

    def load(self, data: Path) -> Items:
        (file,) = self.files
        source = Source(data)
        table = source.table(file, Columns(texts=("text",), values=("label",)))
        items = []
        for place, row in enumerate(table.rows):
            label = _LABELS.get(str(row["label"]).strip())
            if label is None:
                raise BadData(f"{table.place(place)}: the label is none of 0, 1, 2")
            items.append(item(place, row["text"], label, "tweet"))
        return source.items(items, self.n_published)
