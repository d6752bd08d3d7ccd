"""Checks an owner's data by the rules of training, but collects all errors where training stops at the first."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.data.reading import scan_rows, skip_reason, split_rows
from agent.data.records import BrokenRecord, scan_records
from agent.data.report import MAX_ERRORS, MAX_PLACES, DataReport, Example, Problem, ShownCompletion, Span, Spread
from agent.data.rows import Comparison, Row
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared import kinds
from shared.kinds import Kind

_N_EXAMPLES = 3
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class LocatedRow:
    """A row with its place in the owner's files, such as "line 3"."""

    place: str
    row: Row | Comparison


@dataclass
class _Occurrences:
    """One error: the message at its first place, the first places, and the number of all places."""

    message: str
    places: list[str] = field(default_factory=list)
    count: int = 0


@dataclass
class CollectedData:
    """The content of the owner's files, and the counts for a report on it. The fields mean what ``DataReport`` says."""

    train: list[LocatedRow] = field(default_factory=list)
    held_out: list[LocatedRow] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    errors: dict[tuple[str, str], _Occurrences] = field(default_factory=dict)
    records: int = 0
    duplicates: int = 0
    overlap: int = 0

    def add_error(self, source: DataSource, place: str, error: str, private: str = "") -> None:
        """Add an error. Errors that differ only in numbers or in *private* are one error at several places.

        Args:
            source: the file or data set.
            place: where the error is, such as "line 3"; empty if it concerns the whole file.
            error: the message; it continues the place.
            private: the rest of the message, which continues *error*.
        """
        key = (source.label, _NUMBER.sub("#", error))
        occurrences = self.errors.setdefault(key, _Occurrences(error + private))
        occurrences.count += 1
        if len(occurrences.places) < MAX_PLACES:
            occurrences.places.append(place)

    @property
    def n_errors(self) -> int:
        """The number of errors, at all places."""
        return sum(occurrences.count for occurrences in self.errors.values())

    @property
    def problems(self) -> list[Problem]:
        """The first MAX_ERRORS errors, each with its places."""
        return [
            Problem(label=label, message=error.message, places=error.places, count=error.count)
            for (label, _), error in list(self.errors.items())[:MAX_ERRORS]
        ]

    def report(self, name: str, source: DataSource, kind: Kind) -> DataReport:
        """Return the part of the report that needs no tokenizer."""
        held_out_prompts = {located.row.prompt_parts for located in self.held_out}
        usable = (*self.train, *self.held_out)
        return DataReport(
            name=name,
            label=source.label,
            kind=kind.name,
            records=self.records,
            train=len(self.train),
            held_out=len(self.held_out),
            skipped=dict(self.skipped.most_common()),
            errors=self.problems,
            n_errors=self.n_errors,
            duplicates=self.duplicates,
            overlap=self.overlap,
            same_prompt=sum(located.row.prompt_parts in held_out_prompts for located in self.train),
            characters=Spread.of(
                sum(len(turn.text) for turn in row.turns) for located in usable for row in located.row.completions
            ),
            examples=[
                Example(place=located.place, completions=_shown(located.row, kind))
                for located in choose_examples(self.train)
            ],
        )


def collect(source: DataSource, kind: Kind) -> CollectedData:
    """Read all files of *source* and collect their rows and errors."""
    data = CollectedData()
    rows = _read(source, kind, data)
    data.duplicates = len(rows) - len({located.row for located in rows})
    own_held_out = _read(source.held_out_source, kind, data) if source.held_out_source is not None else None
    parts = split_rows(rows, own_held_out, source.held_out, lambda located: located.row)
    if own_held_out is not None:
        data.overlap = len(rows) - len(parts[0])
    data.train, data.held_out = (_usable(part, data) for part in parts)
    return data


def guess_kind(source: DataSource) -> Kind:
    """Guess the kind of training that data is for from the columns of its first record.

    Data whose conversations are in the chosen or rejected column is for sft.
    """
    single, pairs = kinds.find("sft"), kinds.find("dpo")
    columns = [source.column(role) for role in pairs.completions]
    if source.messages is not None and source.messages in columns:
        return single
    try:
        first = next((record for _, record in scan_records(source) if not isinstance(record, BrokenRecord)), {})
    except TaskFailed:  # reading the rows will report it
        return single
    return pairs if all(column in first for column in columns) else single


def choose_examples(rows: Sequence[LocatedRow]) -> list[LocatedRow]:
    """Return a few of the rows, evenly spaced from the first to the last."""
    last = len(rows) - 1
    return [rows[index] for index in sorted({last * part // (_N_EXAMPLES - 1) for part in range(_N_EXAMPLES)}) if rows]


def _read(source: DataSource, kind: Kind, data: CollectedData) -> list[LocatedRow]:
    rows = []
    n_before = data.records
    try:
        for scanned in scan_rows(source, kind):
            data.records += bool(scanned.place)
            if scanned.error:
                data.add_error(source, scanned.place, scanned.error, scanned.private)
            elif scanned.row is None:
                data.skipped[scanned.skip_reason] += 1
            else:
                rows.append(LocatedRow(scanned.place, scanned.row))
        if data.records == n_before:
            data.add_error(source, "", "the file has no rows")
    except TaskFailed as error:
        data.add_error(source, "", str(error).removeprefix(f"{source.label}: "))
    return rows


def _usable(rows: Sequence[LocatedRow], data: CollectedData) -> list[LocatedRow]:
    """Return the rows with tokens to train on under any tokenizer; count the others as skipped."""
    usable = []
    for located in rows:
        if reason := skip_reason(located.row):
            data.skipped[reason] += 1
        else:
            usable.append(located)
    return usable


def completion_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of a row's completions in a report; one that stands alone needs none."""
    return kind.completions if kind.compares else ("",)


def _shown(row: Row | Comparison, kind: Kind) -> list[ShownCompletion]:
    return [
        ShownCompletion(name=name, spans=_spans(single))
        for name, single in zip(completion_names(kind), row.completions, strict=True)
    ]


def _spans(row: Row) -> list[Span]:
    last = len(row.turns) - 1
    spans = []
    for number, turn in enumerate(row.turns):
        supervised = turn.role == "assistant" and (number == last or not row.only_last)
        spans.append(Span(text=f"{'' if number == 0 else chr(10)}{turn.role}: ", supervised=False))
        spans.append(Span(text=turn.text, supervised=supervised))
    return spans
