"""Reads the owner's data into rows, and splits them into training and held-out rows.

Error messages are sent to the coordinator. They contain line numbers and the columns that the settings name, never the
content of a row.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from agent.data.checks.notices import Note, Occurrences
from agent.data.files.file_record import BrokenRecord
from agent.data.files.records import refuse, scan_records
from agent.data.held_out import notice_differences, split_rows
from agent.data.parsing.open_record import OpenRecord, RecordError, SkippedRecord, list_columns
from agent.data.presets import PRESETS
from agent.data.rows import Comparison, LocatedRow, Row
from agent.data.shapes import detect_columns, parse_row
from agent.data.source import DataSource
from shared import kinds
from shared.kinds import Kind


@dataclass(frozen=True)
class ScannedRecord:
    """The outcome of reading one record: a row, an error, or a reason to skip it.

    Args:
        place: where the record is, such as "line 3"; empty if the error concerns all the data.
        row: the row; None if the record has an error or is skipped.
        error: the error message, which continues the place; empty if there is none.
        private: the rest of the error message. It quotes column names and stays on this machine.
        skip_reason: why the record is skipped; empty if it is used.
        notes: what of it is not read or not learnt.
        is_record: whether this is a record, and not an error or notes on all of a file or of the data.
    """

    place: str
    row: Row | Comparison | None
    error: str = ""
    private: str = ""
    skip_reason: str = ""
    notes: tuple[Note, ...] = ()
    is_record: bool = False


@dataclass
class Rows:
    """All rows of some data. skipped: the number of skipped records by reason. notices: what is not read or learnt."""

    located: list[LocatedRow] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notices: Occurrences = field(default_factory=Occurrences)

    @property
    def rows(self) -> list[Row | Comparison]:
        """The rows without their places."""
        return [located.row for located in self.located]


@dataclass(frozen=True)
class Split:
    """The rows to train on and the rows to evaluate on. skipped, notices: as in ``Rows``, of all files."""

    train: Sequence[LocatedRow]
    held_out: Sequence[LocatedRow]
    skipped: Counter[str]
    notices: Occurrences


def scan_rows(source: DataSource, kind: Kind) -> Iterator[ScannedRecord]:
    """Yield the outcome of each record of the data. Raises TaskFailed (data) if the rest cannot be read."""
    columns: dict[str, None] = {}
    unread: dict[str, None] = {}
    detected = None
    seen: set[str] = set()
    yield from _other_columns(source, kind)
    for found in scan_records(source):
        if isinstance(found.content, BrokenRecord):
            yield ScannedRecord(
                found.where, None, error=found.error, private=found.content.private, is_record=found.place != ""
            )
            continue
        if found.content is None:
            yield ScannedRecord(found.where, None, notes=found.notes)
            continue
        columns |= dict.fromkeys(found.content)
        detected = detected or detect_columns(source, found.content, kind)
        opened = OpenRecord(found.content, detected, is_of_table=found.is_of_table)
        scanned = replace(_scan_record(found.where, opened, kind, seen), is_record=True)
        if scanned.row is not None:
            unread |= dict.fromkeys(opened.unread)
            scanned = replace(scanned, notes=(*found.notes, *opened.notes))
        yield scanned
    if unread:
        count = "1 column is" if len(unread) == 1 else f"{len(unread)} columns are"
        yield ScannedRecord("", None, notes=(Note(f"{count} not read", f": {list_columns(unread)}"),))
    for setting, column in _missing_columns(source, columns):
        error = f"no row has the column {column!r} ({setting})"
        yield ScannedRecord("", None, error, f"; the columns are {list_columns(columns)}")


def _other_columns(source: DataSource, kind: Kind) -> Iterator[ScannedRecord]:
    """The names of ``other_columns`` that the kind does not need: errors, unless another kind needs them."""
    needed = [role for role in source.needed_columns(kind) if role not in ("prompt", "messages")]
    for name in source.other_columns:
        if name in needed:
            continue
        message = f"other_columns names {name!r}, which campaigns of kind {kind.name} do not need"
        if kinds.needs_column(name):
            yield ScannedRecord("", None, notes=(Note(message),))
        else:
            yield ScannedRecord("", None, error=f"{message}; they need {', '.join(map(repr, needed)) or 'none'}")


def _missing_columns(source: DataSource, columns: dict[str, None]) -> Iterator[tuple[str, str]]:
    """The settings whose columns rows may lack, and which no row has, with these columns."""
    # an owner's copy of a preset's data set may lack the preset's input column
    optional = PRESETS[source.preset].get("input") if source.preset is not None else None
    named = (("input", source.input), ("system", source.system or None), ("history", source.history or None))
    for setting, column in named:
        if columns and column not in (None, optional, *columns):
            yield setting, str(column)


def _scan_record(place: str, opened: OpenRecord, kind: Kind, seen: set[str]) -> ScannedRecord:
    """Parse one record. seen: the values of the unique column so far, which this record is added to."""
    try:
        row = parse_row(opened, kind)
        unique = opened.source.unique
        value = str(opened.value(unique, "unique")) if unique is not None else None
    except RecordError as error:
        return ScannedRecord(place, None, error=str(error), private=error.private)
    except SkippedRecord as reason:
        return ScannedRecord(place, None, skip_reason=str(reason))
    if value is not None:
        if value in seen:
            return ScannedRecord(place, None, skip_reason=f"a repeated {unique!r}")
        if not skip_reason(row):
            seen.add(value)
    return ScannedRecord(place, row)


def read_rows(source: DataSource, kind: Kind, notices: Occurrences | None = None) -> Rows:
    """Return all rows of the data. Raises TaskFailed (data) that names the place of the first error.

    notices: receives the notices; by default the result has its own.
    """
    rows = Rows(notices=notices or Occurrences())
    for scanned in scan_rows(source, kind):
        for note in scanned.notes:
            rows.notices.add(source.label, scanned.place, note.message, note.private, apart=True)
        if scanned.error:
            hint = "; `fedloom agent check-data` shows the names" if scanned.private else ""
            refuse(source, f"{scanned.error}{hint}", scanned.place)
        if scanned.row is not None:
            rows.located.append(LocatedRow(source.label, scanned.place, scanned.row))
        elif scanned.skip_reason:
            rows.skipped[scanned.skip_reason] += 1
    if not rows.located and not rows.skipped:
        refuse(source, "the file has no rows")
    return rows


def read_split(source: DataSource, kind: Kind) -> Split:
    """Return the rows of the data, split into training and held-out rows. Raises TaskFailed (data)."""
    data = read_rows(source, kind)
    own_held_out, skipped = None, data.skipped
    if source.held_out_source is not None:
        held_out_data = read_rows(source.held_out_source, kind, data.notices)
        own_held_out, skipped = held_out_data.located, skipped + held_out_data.skipped
        notice_differences(data.located, own_held_out, data.notices)
    train, held_out = split_rows(data.located, own_held_out, source.held_out)
    return Split(train, held_out, skipped, data.notices)


def skip_reason(row: Row | Comparison) -> str:
    """Return why a row cannot be trained on under any tokenizer; empty if it can."""
    if not all(single.completion.strip() for single in row.completions):
        return "an empty completion"
    if not (row.prompt or row.input or row.before):
        return "an empty prompt"
    is_equal = isinstance(row, Comparison) and len(set(row.answers)) < len(row.answers)
    return "two equal completions" if is_equal else ""
