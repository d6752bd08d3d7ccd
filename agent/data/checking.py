"""Looks through an owner's data as training would, and goes on where training would end: all errors, not the first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.data.reading import divide, nothing_in, scan
from agent.data.records import Broken, scan_records
from agent.data.report import MOST_ERRORS, MOST_PLACES, DataReport, Example, Problem, ShownCompletion, Span, Spread
from agent.data.rows import Pair, Row
from agent.errors import TaskFailed
from agent.settings import DataSource
from shared.campaign import TrainingKind

_N_EXAMPLES = 3


@dataclass(frozen=True)
class Placed:
    """A row with its place in the owner's files."""

    place: str
    row: Row | Pair


@dataclass
class Problems:
    """Where an error is: the first places, and how many there are."""

    places: list[str] = field(default_factory=list)
    count: int = 0


@dataclass
class Gathered:
    """All that the owner's files hold, and the first part of a report on it."""

    train: list[Placed] = field(default_factory=list)
    held_out: list[Placed] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    errors: dict[tuple[str, str], Problems] = field(default_factory=dict)
    records: int = 0
    duplicates: int = 0
    overlap: int = 0

    def error(self, source: DataSource, place: str, message: str) -> None:
        """Remember an error; *message* goes on after the place."""
        found = self.errors.setdefault((source.label, message), Problems())
        found.count += 1
        if len(found.places) < MOST_PLACES:
            found.places.append(place)

    @property
    def n_errors(self) -> int:
        """All errors."""
        return sum(one.count for one in self.errors.values())

    @property
    def problems(self) -> list[Problem]:
        """The first errors, those with one message together."""
        return [
            Problem(label=label, message=message, places=one.places, count=one.count)
            for (label, message), one in list(self.errors.items())[:MOST_ERRORS]
        ]

    def report(self, name: str, source: DataSource, kind: TrainingKind) -> DataReport:
        """The report, as far as no tokenizer is needed."""
        asked = {one.row.asked for one in self.held_out}
        both = (*self.train, *self.held_out)
        return DataReport(
            name=name,
            label=source.label,
            kind=kind,
            records=self.records,
            train=len(self.train),
            held_out=len(self.held_out),
            left_out=dict(self.left_out.most_common()),
            errors=self.problems,
            n_errors=self.n_errors,
            duplicates=self.duplicates,
            overlap=self.overlap,
            same_prompt=sum(one.row.asked in asked for one in self.train),
            characters=Spread.of(
                sum(len(turn.text) for turn in side.turns) for one in both for side in one.row.completions
            ),
            examples=[Example(place=one.place, completions=_sides(one.row)) for one in spread_out(self.train)],
        )


def gather(source: DataSource, kind: TrainingKind) -> Gathered:
    """Read all files of *source*. What is wrong with them becomes errors."""
    found = Gathered()
    rows = _read(source, kind, found)
    found.duplicates = len(rows) - len({one.row for one in rows})
    apart = _read(source.held_out_source, kind, found) if source.held_out_source is not None else None
    parts = divide(rows, apart, source.held_out, lambda one: one.row)
    if apart is not None:
        found.overlap = len(rows) - len(parts[0])
    found.train, found.held_out = (_usable(part, found) for part in parts)
    return found


def kind_of(source: DataSource) -> TrainingKind:
    """The kind of training that data is for, by the columns of its first record. One side alone may be messages."""
    if source.messages is not None and source.messages in (source.chosen, source.rejected):
        return "sft"
    try:
        first = next((record for _, record in scan_records(source) if not isinstance(record, Broken)), {})
    except TaskFailed:  # it is told where the rows are read
        return "sft"
    return "dpo" if source.chosen in first and source.rejected in first else "sft"


def spread_out(rows: Sequence[Placed]) -> list[Placed]:
    """A few of the rows: the first, the last, and some between."""
    last = len(rows) - 1
    return [rows[index] for index in sorted({last * part // (_N_EXAMPLES - 1) for part in range(_N_EXAMPLES)}) if rows]


def _read(source: DataSource, kind: TrainingKind, found: Gathered) -> list[Placed]:
    rows = []
    before = found.records
    try:
        for one in scan(source, kind):
            found.records += bool(one.place)
            if one.wrong:
                found.error(source, one.place, one.wrong + one.here)
            elif one.row is None:
                found.left_out[one.left_out] += 1
            else:
                rows.append(Placed(one.place, one.row))
        if found.records == before:
            found.error(source, "", "the file has no rows")
    except TaskFailed as error:
        found.error(source, "", str(error).removeprefix(f"{source.label}: "))
    return rows


def _usable(rows: Sequence[Placed], found: Gathered) -> list[Placed]:
    """The rows that have something to learn in them, whatever the tokenizer."""
    usable = []
    for one in rows:
        if reason := nothing_in(one.row):
            found.left_out[reason] += 1
        else:
            usable.append(one)
    return usable


def _sides(row: Row | Pair) -> list[ShownCompletion]:
    names = ("chosen", "rejected") if isinstance(row, Pair) else ("",)
    return [ShownCompletion(name=name, spans=_spans(side)) for name, side in zip(names, row.completions, strict=True)]


def _spans(row: Row) -> list[Span]:
    last = len(row.turns) - 1
    spans = []
    for number, turn in enumerate(row.turns):
        supervised = turn.role == "assistant" and (number == last or not row.only_last)
        spans.append(Span(text=f"{'' if number == 0 else chr(10)}{turn.role}: ", supervised=False))
        spans.append(Span(text=turn.text, supervised=supervised))
    return spans
