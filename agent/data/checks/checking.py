"""Checks an owner's data by the rules of training, but collects all errors where training stops at the first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.data.checks.notices import Occurrences
from agent.data.checks.report import DataReport, Example, ShownCompletion, Span, Spread
from agent.data.files.records import scan_records
from agent.data.held_out import notice_differences, split_rows
from agent.data.reading import scan_rows, skip_reason
from agent.data.replies import is_supervised
from agent.data.rows import Comparison, LocatedRow, Row
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared import kinds
from shared.kinds import Kind

_N_EXAMPLES = 3


@dataclass
class CollectedData:
    """The content of the owner's files, and the counts for a report on it. The fields mean what ``DataReport`` says."""

    train: list[LocatedRow] = field(default_factory=list)
    held_out: list[LocatedRow] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    errors: Occurrences = field(default_factory=Occurrences)
    notices: Occurrences = field(default_factory=Occurrences)
    records: int = 0
    duplicates: int = 0
    overlap: int = 0

    def report(self, name: str, source: DataSource, kind: Kind) -> DataReport:
        """Return the part of the report that needs no tokenizer."""
        held_out_prompts = {_normalized(located.row.prompt_parts) for located in self.held_out}
        usable = (*self.train, *self.held_out)
        return DataReport(
            name=name,
            label=source.label,
            kind=kind.name,
            records=self.records,
            train=len(self.train),
            held_out=len(self.held_out),
            skipped=dict(self.skipped.most_common()),
            errors=self.errors.problems,
            n_errors=self.errors.total,
            notices=self.notices.problems,
            duplicates=self.duplicates,
            overlap=self.overlap,
            same_prompt=sum(_normalized(located.row.prompt_parts) in held_out_prompts for located in self.train),
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
    data.duplicates = len(rows) - len({(_normalized(located.row.parts), located.row.labels) for located in rows})
    own_held_out = _read(source.held_out_source, kind, data) if source.held_out_source is not None else None
    notice_differences(rows, own_held_out or [], data.notices)
    parts = split_rows(rows, own_held_out, source.held_out)
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
        contents = (found.content for found in scan_records(source))
        first = next((content for content in contents if isinstance(content, Mapping)), {})
    except TaskFailed:  # reading the rows will report it
        return single
    return pairs if all(column in first for column in columns) else single


def choose_examples(rows: Sequence[LocatedRow]) -> list[LocatedRow]:
    """Return a few of the rows, evenly spaced from the first to the last."""
    last = len(rows) - 1
    return [rows[index] for index in sorted({last * part // (_N_EXAMPLES - 1) for part in range(_N_EXAMPLES)}) if rows]


def _normalized(parts: Sequence[str]) -> tuple[str, ...]:
    """Texts without the differences that white space and capital letters make."""
    return tuple(" ".join(part.split()).casefold() for part in parts)


def _read(source: DataSource, kind: Kind, data: CollectedData) -> list[LocatedRow]:
    rows = []
    before = data.records, data.errors.total
    try:
        for scanned in scan_rows(source, kind):
            data.records += scanned.is_record
            for note in scanned.notes:
                data.notices.add(source.label, scanned.place, note.message, note.private, apart=True)
            if scanned.error:
                data.errors.add(source.label, scanned.place, scanned.error, scanned.private)
            elif scanned.skip_reason:
                data.skipped[scanned.skip_reason] += 1
            elif scanned.row is not None:
                rows.append(LocatedRow(source.label, scanned.place, scanned.row))
        if (data.records, data.errors.total) == before:
            data.errors.add(source.label, "", "the file has no rows")
    except TaskFailed as error:
        data.errors.add(source.label, "", str(error).removeprefix(f"{source.label}: "))
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
    turns, spans = row.turns, []
    for number, turn in enumerate(turns):
        supervised = turn.role == "assistant" and is_supervised(row, turns, number)
        spans.append(Span(text=f"{'' if number == 0 else chr(10)}{turn.role}: ", supervised=False))
        spans.append(Span(text=turn.text, supervised=supervised))
    return spans
