"""What is read from the owner's files, before it is parsed into rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.data.checks.notices import Note
from agent.data.local_names import LocalName

Record = Mapping[str, Any]


@dataclass(frozen=True)
class BrokenRecord:
    """A part of a file that is not a valid record.

    message: continues its place: " is not JSON". private: the rest, which may quote names from the file and stays on
    this machine.
    """

    message: str
    private: str = ""


@dataclass(frozen=True)
class FileRecord:
    """A record of a file, valid or broken.

    Args:
        place: where it is, such as "line 3"; empty for an error, or notes, on all of a file or folder.
        content: the record; None if there are only notes.
        notes: what the file's form says against it, or which files are not read.
        is_of_table: whether it is a record of a CSV or TSV, whose columns the header names.
        file: the file's name in its folder; empty if the data is one file.
        number: its number among the files that are read, from 1, by which messages to the operator call it.
    """

    place: str
    content: Record | BrokenRecord | None
    notes: tuple[Note, ...] = ()
    is_of_table: bool = False
    file: str = ""
    number: int = 0

    @property
    def where(self) -> str:
        """The file, if there are several, and the place in it. A message continues it."""
        if not self.file:
            return self.place
        shown, public = (": ".join(filter(None, (name, self.place))) for name in (self.file, f"file {self.number}"))
        return LocalName(shown, public)

    @property
    def error(self) -> str:
        """The message of a broken record, which continues ``where``; empty if there is none."""
        if not isinstance(self.content, BrokenRecord):
            return ""
        return f": {self.content.message}" if self.file and not self.place else self.content.message
