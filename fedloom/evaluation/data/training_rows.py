"""The texts of training rows, in which evaluation items are looked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.data.notices import Occurrences
from agent.data.records import read_records
from agent.data.source import DataSource
from agent.errors import TaskFailed
from fedloom.errors import EvaluationError


def training_texts(paths: Sequence[Path]) -> Iterator[str]:
    """The text of each row of files or folders that agents read: all of its columns, a line each.

    Raises EvaluationError, with the place and never the content of a row, if one cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise EvaluationError(f"{path}: there is no such file or folder")
        source = DataSource(path=path, numbers=True)
        try:
            for _, record in read_records(source, Occurrences()):
                yield "\n".join(_texts(record))
        except TaskFailed as error:
            raise EvaluationError(f"{path}: {error.failure.message.removeprefix(f'{source.label}: ')}") from error


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
