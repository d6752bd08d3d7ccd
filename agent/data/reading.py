"""Rows out of the owner's data, and which of them are held out.

Messages say line numbers and the columns that the settings name, never what stands in a row: they leave the building.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agent.data.presets import PRESETS
from agent.data.records import Broken, refuse, scan_records
from agent.data.rows import Pair, Row
from agent.data.shapes import LeftOut, Wrong, listed, recognised, row_of
from agent.settings import DataSource
from shared.campaign import TrainingKind
from shared.digest import sha256_of_parts

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """What became of one record. row: None where it is wrong or left out, which then says why. wrong: goes on after the
    place, which is empty where all the data is wrong; here: goes on after that, and stays on this machine."""

    place: str
    row: Row | Pair | None
    wrong: str = ""
    here: str = ""
    left_out: str = ""


@dataclass
class Rows:
    """All rows of some data: pairs for dpo. left_out: how many records are none, by the reason."""

    rows: list[Any] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Split:
    """The rows to train on and the rows to evaluate on."""

    train: Sequence[Row | Pair]
    held_out: Sequence[Row | Pair]
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
    of_preset = PRESETS[source.preset].get("input") if source.preset is not None else None  # which a copy may lack
    if columns and source.input not in (None, of_preset, *columns):
        yield Found("", None, f"no row has the column {source.input!r} (input)", f"; there are {listed(columns)}")


def _found(place: str, record: Mapping[str, Any], source: DataSource, kind: TrainingKind, seen: set[str]) -> Found:
    try:
        row = row_of(record, source, kind)
    except Wrong as wrong:
        return Found(place, None, wrong=str(wrong), here=wrong.here)
    except LeftOut as reason:
        return Found(place, None, left_out=str(reason))
    if (column := source.unique) is not None:
        if column not in record:
            return Found(place, None, f" has no column {column!r} (unique)", f"; it has {listed(record)}")
        if (value := str(record[column])) in seen:
            return Found(place, None, left_out=f"a {column!r} that came before")
        if not nothing_in(row):
            seen.add(value)
    return Found(place, row)


def read_rows(source: DataSource, kind: TrainingKind) -> Rows:
    """All rows of the data. Raises TaskFailed (data) with the place that is wrong."""
    rows = Rows()
    for found in scan(source, kind):
        if found.wrong:
            look = "; `fedloom agent check-data` shows which there are" if found.here else ""
            refuse(source, f"{found.place}{found.wrong}{look}")
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
    apart = read_rows(source.held_out_source, kind) if source.held_out_source is not None else None
    train, held_out = divide(found.rows, apart.rows if apart is not None else None, source.held_out, lambda row: row)
    return Split(train, held_out, found.left_out + apart.left_out if apart is not None else found.left_out)


def divide(
    found: Sequence[T], apart: Sequence[T] | None, fraction: float, row_of: Callable[[T], Row | Pair]
) -> tuple[list[T], list[T]]:
    """What to train on and what to evaluate on: *apart*, where the owner has held-out rows of their own, otherwise the
    fraction. Training never sees what evaluation asks."""
    if apart is None:
        completions: tuple[list[T], list[T]] = [], []
        for one in found:
            completions[is_held_out(row_of(one), fraction)].append(one)
        return completions
    kept = {row_of(one) for one in apart}
    return [one for one in found if row_of(one) not in kept], list(apart)


def is_held_out(row: Row | Pair, fraction: float) -> bool:
    """Whether a row is kept for evaluation. It depends on the row's own text alone: rows that are added later move no
    other row, and equal rows stay on one side."""
    digest = sha256_of_parts(row.parts)
    return int(digest[:16], 16) / 2**64 < fraction


def nothing_in(row: Row | Pair) -> str:
    """Why there is nothing to learn in a row, whatever the tokenizer; nothing where there is something."""
    if not all(side.completion for side in row.completions):
        return "an empty completion"
    return "two completions that are equal" if isinstance(row, Pair) and row.chosen == row.rejected else ""
