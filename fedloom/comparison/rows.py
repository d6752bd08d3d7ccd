"""The rows that methods are scored on, and whether a measure can tell methods apart on them."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.data.checks.notices import Occurrences
from agent.data.files.file_record import Record
from agent.data.files.records import read_records
from agent.data.parsing.history import history_column
from agent.data.parsing.open_record import OpenRecord, RecordError
from agent.data.source import DataSource
from agent.orders.on_base.score import Completed
from fedloom.comparison.spec import ScoreSection
from fedloom.errors import ComparisonError
from shared.text.unsafe import shorten

_MAX_CHOICES = 20
_MAX_SHOWN = 5
_ONE_COMPLETION = {
    "exact": "an answer that ignores the prompt would be right in each",
    "choice": "there is nothing to choose from, and every method would score 100",
}
"""For each measure that one completion in all rows makes useless, the reason."""


@dataclass(frozen=True)
class Rows:
    """Rows to score on.

    Args:
        path: the file.
        rows: its rows.
        choices: all completions in the file, sorted; empty unless the measure is `choice`.
        unread: what of the file is not read.
    """

    path: Path
    rows: list[Completed]
    choices: list[str]
    unread: list[str]

    @classmethod
    def read(cls, path: Path, source: DataSource, score: ScoreSection) -> Self:
        """Read a file by the columns of *source*.

        Raises ComparisonError, also if the measure cannot tell methods apart on these rows; and TaskFailed if the file
        holds no records.
        """
        notices = Occurrences()
        placed = read_records(source.at(path), notices)
        rows = [_completed(path, place, record, source) for place, record in placed]
        if not rows:
            raise ComparisonError(f"{path}: the file has no rows")
        completions = {row.completion for row in rows}
        distinct = {completion.strip() for completion in completions}
        if len(distinct) == 1 and score.measure in _ONE_COMPLETION:
            each = "the only row has one completion" if len(rows) == 1 else "all rows have the same completion"
            raise ComparisonError(
                f"{path}: {each}, so {_ONE_COMPLETION[score.measure]}; add rows with other completions, or set "
                "score.measure to loss"
            )
        choices = sorted(completions) if score.measure == "choice" else []
        if len(choices) > _MAX_CHOICES:
            raise ComparisonError(
                f"{path}: {len(choices)} different completions are too many to choose among (at most {_MAX_CHOICES}); "
                "set score.measure to exact or loss"
            )
        if choices and len(distinct) < len(choices):
            raise ComparisonError(
                f"{path}: some completions differ only in spaces around them, so the likeliest is a matter of spaces; "
                "write each completion in one way"
            )
        return cls(path, rows, choices, list(map(str, notices.problems)))

    def notes(self, training: Collection[Completed]) -> list[str]:
        """What makes scores on these rows doubtful, given the rows of the training data.

        Raises ComparisonError if none of the choices is in the training data.
        """
        notes = list(self.unread)
        if repeated := len(self.shared_with(training)):
            notes.append(f"{self.path.name}: {repeated} of {len(self.rows)} rows are in the training data too")
        taught = {row.completion.strip() for row in training}
        untaught = [choice for choice in self.choices if choice.strip() not in taught]
        if untaught and len(untaught) == len(self.choices):
            raise ComparisonError(
                f"{self.path}: none of the {len(untaught)} completions to choose from is in the training data, so no "
                "method can learn them; correct the completions of one of the files"
            )
        if untaught:
            shown = ", ".join(repr(shorten(choice, 40)) for choice in untaught[:_MAX_SHOWN])
            notes.append(f"{self.path.name}: no training row has the completion {shown}, which no method can learn")
        return notes

    def shared_with(self, others: Iterable[Completed]) -> list[Completed]:
        """The rows that are among *others* too."""
        known = set(map(_text_of, others))
        return [row for row in self.rows if _text_of(row) in known]


def training_rows(source: DataSource, notices: Occurrences) -> list[Completed]:
    """The rows of the training data that have a prompt and a completion as text. Raises TaskFailed.

    notices: receives what of the files is not read.
    """
    rows = []
    for _, record in read_records(source, notices):
        with suppress(RecordError):
            opened = OpenRecord(record, source)
            fields = {role: opened.optional_text(column, role) for role, column in _columns(source).items()}
            if fields["prompt"] and fields["completion"]:
                rows.append(Completed(**fields))
    return rows


def _completed(path: Path, place: str, record: Record, source: DataSource) -> Completed:
    opened = OpenRecord(record, source)
    fields = {}
    for role, column in (("prompt", source.prompt), ("completion", source.completion)):
        with suppress(RecordError):
            fields[role] = opened.optional_text(column, role)
        if not fields.get(role, "").strip():
            raise ComparisonError(f"{path}, {place}: the column {column!r} ({role}) must hold a text")
    try:
        fields["input"] = opened.optional_text(source.input, "input")
        system_column, _ = opened.system
    except RecordError as error:
        raise ComparisonError(f"{path}, {place}{error}") from error
    if system_column:
        message = f"the system prompt in the column {system_column!r} is not scored; remove it"
        raise ComparisonError(f"{path}, {place}: {message}")
    if (history := history_column(opened)) and record[history]:
        raise ComparisonError(f"{path}, {place}: the earlier turns in the column {history!r} are not scored; remove it")
    return Completed(**fields)


def _columns(source: DataSource) -> dict[str, str | None]:
    return {"prompt": source.prompt, "completion": source.completion, "input": source.input}


def _text_of(row: Completed) -> tuple[str, str, str]:
    return row.prompt, row.input, row.completion
