"""Tokenises rows as prepare and check-data do."""

from collections.abc import Iterable
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

from agent.data.rows import Comparison, LocatedRow, Row
from agent.data.source import DataSource
from agent.train.base.limits import NO_LIMITS, InputLimits
from agent.train.data.row_tokenizer import RowTokenizer, TokenizedRow
from agent.train.data.tokens import TokenRow

DAY = date(2026, 1, 31)


def tokenized(
    rows: Iterable[Row | Comparison],
    template: Any,
    tokenizer: Any,
    *,
    max_length: int = 4096,
    limits: InputLimits = NO_LIMITS,
    **settings: Any,
) -> tuple[list[TokenizedRow], list[str]]:
    """The rows, of lines 1, 2, …, with their tokens, and the notices on them. settings: of the data table."""
    source = DataSource(path=Path("rows.jsonl"), **settings)
    tokenizing = RowTokenizer(source, template, max_length, tokenizer, limits, DAY)
    located = [LocatedRow(source.label, f"line {number}", row) for number, row in enumerate(rows, 1)]
    found = list(tokenizing.tokenize(located))
    return found, tokenizing.notices().public


def supervised_texts(tokenizer: Any, row: TokenRow) -> list[str]:
    """The text of each run of supervised tokens."""
    runs = groupby(zip(*row, strict=True), key=lambda pair: pair[1])
    return [tokenizer.decode([token for token, _ in run]) for supervised, run in runs if supervised]
