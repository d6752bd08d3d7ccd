"""What a task reads its files through: digests, numbers of rows and ids are checked, and what they say is noted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items
from fedloom.evaluation.tasks.files.columns import Columns, Row, rows_of
from fedloom.evaluation.tasks.files.finding import find, missing, unreadable
from fedloom.evaluation.tasks.files.formats import Content, content_of, text_of
from shared.digest import sha256_hex


@dataclass(frozen=True)
class Table:
    """The rows of a file, and the path at which it was found."""

    path: str
    rows: Sequence[Row]

    def place(self, index: int) -> str:
        """The row of an index, in words."""
        return f"{self.path}: row {index + 1}"


@dataclass
class Source:
    """Reads the files of one task. All methods raise DataMissing if a file is not there, and BadData.

    Args:
        data: the folder of evaluation data.
        digests: SHA-256 of each file that was read, by the path at which it was found.
        notes: what a reader of the numbers must know.
    """

    data: Path
    digests: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def first_of(self, *files: DataFile) -> DataFile:
        """The first of several files that is there. The others are read in its place alone."""
        for file in files:
            if find(self.data, file) is not None:
                return file
        raise missing(self.data, *files)

    def path(self, file: DataFile) -> str:
        """Where a file is."""
        path = find(self.data, file)
        if path is None:
            raise missing(self.data, file)
        return path

    def text(self, file: DataFile, or_else: str | None = None) -> str:
        """A file of plain text. or_else: the encoding of one that is not UTF-8."""
        path, raw = self._read(file)
        return text_of(raw, path, or_else)

    def content(self, file: DataFile) -> Content:
        """What a file holds. A task that counts its rows otherwise calls ``count``."""
        path, raw = self._read(file)
        content = content_of(raw, path)
        if content.layout == "parquet" and not file.path.endswith(".parquet"):
            self.notes.append(f"{file.path} was read as Parquet")
        elif path != file.path:
            self.notes.append(f"{file.path} was read from {path}")
        return content

    def table(self, file: DataFile, columns: Columns) -> Table:
        """The rows of a file, as many as there may be, with the columns that a task reads."""
        content = self.content(file)
        rows = rows_of(content, columns)
        self.count(file, len(rows), content)
        return Table(content.path, rows)

    def count(self, file: DataFile, n: int, content: Content | None = None) -> None:
        """Compare a number of rows with the published one, and the digest where that is the same."""
        path = content.path if content is not None else file.path
        if n == 0:
            raise BadData(f"{path} has no rows")
        if file.n_rows is not None and n > file.n_rows:
            raise BadData(f"{path} has {n:,} rows, and the published file {file.n_rows:,}: is it another split?")
        if n == file.n_rows:
            self._compare(file, is_converted=content is not None and content.layout == "parquet")

    def items(self, items: Sequence[Item], n_published: int | None) -> Items:
        """The items of a task. n_published: of the whole set; None if nobody publishes it."""
        path = next(iter(self.digests))
        twice = [name for name, n in Counter(item.id for item in items).items() if n > 1]
        if twice:
            raise BadData(f"{path} has {', '.join(twice[:3])} more than once")
        n = len(items)
        if n == 0:
            raise BadData(f"{path} has no rows of this set")
        if n_published is not None and n > n_published:
            raise BadData(f"{path} has {n:,} items, and the published set {n_published:,}: is it another split?")
        if n_published is not None and n < n_published:
            self.notes.append(f"a slice: {n:,} of {n_published:,} items")
        return Items(items, n_published or n, self.digests, list(dict.fromkeys(self.notes)))

    def _read(self, file: DataFile) -> tuple[str, bytes]:
        path = self.path(file)
        try:
            raw = (self.data / path).read_bytes()
        except OSError as error:
            raise unreadable(path, error) from None
        self.digests[path] = sha256_hex(raw)
        if file.n_rows is None:
            self._compare(file)
        return path, raw

    def _compare(self, file: DataFile, *, is_converted: bool = False) -> None:
        """Say that a whole file is not the published one. Copies in another layout cannot be compared."""
        digest = self.digests.get(file.path)
        is_own = file.path.endswith(".parquet") or not is_converted
        if file.sha256 and digest is not None and digest not in file.sha256 and is_own:
            self.notes.append(f"the file {file.path} is not the published one: another edition, edited or re-ordered")
