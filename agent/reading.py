"""Rows out of the owner's data, and which of them are held out.

Messages say line numbers and column names, never what stands in a row: they leave the building.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.records import Broken, refuse, scan_records
from agent.rows import Pair, Row
from agent.settings import DataSource
from agent.shapes import LeftOut, Wrong, listed, recognised, row_of
from shared.campaign import TrainingKind
from shared.digest import sha256_of_parts


@dataclass(frozen=True)
class Found:
    """What became of one record. row: None where it is wrong or left out, which then says why. wrong: goes on after the
    place."""

    place: str
    row: Row | Pair | None
    wrong: str = ""
    left_out: str = ""


@dataclass
class Rows:
    """All rows of some data: pairs for dpo. left_out: how many records are none, by the reason."""

    rows: list[Any] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Split:
    """The rows to train on and the rows to evaluate on. overlap: rows that stand on both sides in the owner's files,
    and are kept from training."""

    train: Sequence[Row | Pair]
    held_out: Sequence[Row | Pair]
    overlap: int
    left_out: Counter[str]


def scan(source: DataSource, kind: TrainingKind) -> Iterator[Found]:
    """Each record of the data by the columns that *source* names. Raises TaskFailed (data) where nothing more can be
    read."""
    columns: dict[str, None] = {}
    used = None
    seen: set[str] = set()
    for place, record in scan_records(source):
        if isinstance(record, Broken):
            yield Found(place, None, wrong=record.message)
            continue
        columns |= dict.fromkeys(record)
        used = used or recognised(source, record, kind)
        yield _found(place, record, used, kind, seen)
    if source.input is not None and columns and source.input not in columns:
        refuse(source, f"no row has the column {source.input!r} (input); there are {listed(columns)}")


def _found(place: str, record: Mapping[str, Any], source: DataSource, kind: TrainingKind, seen: set[str]) -> Found:
    try:
        row = row_of(record, source, kind)
    except Wrong as wrong:
        return Found(place, None, wrong=str(wrong))
    except LeftOut as reason:
        return Found(place, None, left_out=str(reason))
    if (column := source.unique) is not None:
        if column not in record:
            return Found(place, None, wrong=f" has no column {column!r} (unique); it has {listed(record)}")
        if (value := str(record[column])) in seen:
            return Found(place, None, left_out=f"a {column!r} that came before")
        seen.add(value)
    return Found(place, row)


def read_rows(source: DataSource, kind: TrainingKind) -> Rows:
    """All rows of the data. Raises TaskFailed (data) with the place that is wrong."""
    rows = Rows()
    for found in scan(source, kind):
        if found.wrong:
            refuse(source, f"{found.place}{found.wrong}")
        if found.row is not None:
            rows.rows.append(found.row)
        else:
            rows.left_out[found.left_out] += 1
    if not rows.rows and not rows.left_out:
        refuse(source, "the file has no rows")
    return rows


def read_split(source: DataSource, kind: TrainingKind) -> Split:
    """The rows of the data, split for training and evaluation. Raises TaskFailed (data)."""
    found = read_rows(source, kind)
    held_out = read_rows(apart, kind) if (apart := source.held_out_source) is not None else None
    return split(found, held_out, source.held_out)


def split(found: Rows, held_out: Rows | None, fraction: float) -> Split:
    """Split rows by a file of held-out rows, or by the fraction. Training never sees what evaluation asks."""
    if held_out is None:
        sides: tuple[list[Any], list[Any]] = [], []
        for row in found.rows:
            sides[is_held_out(row, fraction)].append(row)
        return Split(*sides, overlap=0, left_out=found.left_out)
    kept = set(held_out.rows)
    train = [row for row in found.rows if row not in kept]
    left_out = found.left_out + held_out.left_out
    return Split(train, held_out.rows, overlap=len(found.rows) - len(train), left_out=left_out)


def is_held_out(row: Row | Pair, fraction: float) -> bool:
    """Whether a row is kept for evaluation. It depends on the row's own text alone: rows that are added later move no
    other row, and equal rows stay on one side."""
    digest = sha256_of_parts(row.parts)
    return int(digest[:16], 16) / 2**64 < fraction


def nothing_in(row: Row | Pair) -> str:
    """Why there is nothing to learn in a row, whatever the tokenizer; nothing where there is something."""
    if not all(side.completion for side in row.sides):
        return "an empty completion"
    return "two completions that are equal" if isinstance(row, Pair) and row.chosen == row.rejected else ""
