"""FiQA 2018, task 1: headlines and posts, in the edition with scores."""

import math
from pathlib import Path
from typing import Any

from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items
from fedloom.evaluation.tasks.files.columns import Columns, Row
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.finance.corpora import Corpus, item
from fedloom.evaluation.tasks.finance.held_out import drawn, held_out

_SHARE, _SEED, _N_ROWS = 0.226, 42, 1213
_NEUTRAL = 0.1
_COLUMNS = Columns(texts=("sentence", "format"), values=("sentiment_score",))
KINDS = {"post": "tweet", "headline": "news"}
"""What prompts call a text of each format."""


class Fiqa(Corpus):
    """The edition with scores: its three files are joined, and 22.6 % drawn with seed 42, which are 275 rows."""

    name = "fiqa"
    n_published = len(held_out(_N_ROWS, _SHARE, _SEED))
    title = "FiQA-SA"
    files = tuple(
        DataFile(
            f"fiqa_scores/{part}.csv",
            where=f"the split {part} of the data set pauri32/fiqa-2018, with sentence, sentiment_score and format",
            licence="not stated",
        )
        for part in ("train", "validation", "test")
    )

    def load(self, data: Path) -> Items:
        source = Source(data)
        rows: list[Item] = []
        for file in self.files:
            table = source.table(file, _COLUMNS)
            for index, row in enumerate(table.rows):
                rows.append(_scored(len(rows), row, table.place(index)))
        return drawn(source, rows, _N_ROWS, _SHARE, _SEED)


def label_of(score: float) -> str:
    """The label of a score in [-1, 1]."""
    if score < -_NEUTRAL:
        return "negative"
    return "neutral" if score < _NEUTRAL else "positive"


def _scored(place: int, row: Row, where: str) -> Item:
    kind = row["format"].strip().lower()
    if kind not in KINDS:
        raise BadData(f"{where}: the format is neither post nor headline")
    return item(place, row["sentence"], label_of(_score(row["sentiment_score"], where)), KINDS[kind], kind)


def _score(text: Any, where: str) -> float:
    try:
        score = float(text)
    except (TypeError, ValueError):
        score = math.nan
    if not -1 <= score <= 1:
        raise BadData(f"{where}: sentiment_score is no number from -1 to 1")
    return score
