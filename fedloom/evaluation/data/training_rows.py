"""The texts of training rows, in which evaluation items are looked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.data.checks.notices import Occurrences
from agent.data.files.records import read_records
from agent.data.local_names import public
from agent.data.source import DataSource
from agent.errors import TaskFailed
from fedloom.errors import EvaluationError

TrainingRows = Path | DataSource
"""A file or folder of rows, or an owner's data with what agent.toml says of its form."""


def training_texts(data: Sequence[TrainingRows]) -> Iterator[str]:
    """The text of each row of what agents read: all of its columns, a line each.

    Raises EvaluationError, with the place and never the content of a row, if one cannot be read.
    """
    for each in data:
        if isinstance(each, Path) and not each.exists():
            raise EvaluationError(f"{each}: there is no such file or folder")
        source = each if isinstance(each, DataSource) else DataSource(path=each, numbers=True)
        try:
            for _, record in read_records(source, Occurrences()):
                yield "\n".join(_texts(record))
        except TaskFailed as error:
            shown = source.path or source.label
            raise EvaluationError(
                f"{shown}: {error.failure.message.removeprefix(f'{public(source.label)}: ')}"
            ) from error


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
