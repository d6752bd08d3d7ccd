"""Settings of a data table that contradict each other, in an owner's words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.text.words import repeated

if TYPE_CHECKING:
    from agent.data.source import DataSource


def problems(source: "DataSource") -> Iterator[str]:
    """Yield each problem as "setting: what to write", or without a setting if it concerns several."""
    if (source.path is None) == (source.hub is None):
        yield "set either path or hub, or a preset"
    if any("\0" in str(path) for path in (source.path, source.held_out_path, source.template)):
        yield "path: a path cannot hold a NUL character"
    try:
        "a".encode(source.encoding).decode(source.encoding)  # not all codecs are encodings of text
    except (LookupError, UnicodeError):
        yield f"encoding: unknown encoding {source.encoding!r}; use a name such as utf-8 or cp1252"
    yield from _header_problems(source)
    yield from _column_problems(source)
    if (name := repeated(name.lower() for name in source.roles)) is not None:
        yield f"roles: names {name!r} twice; capital letters make no difference"


def _header_problems(source: "DataSource") -> Iterator[str]:
    if source.columns is None:
        if source.header is False:
            yield 'header: name the columns of a table without a header, such as columns = ["prompt", "completion"]'
    elif source.header:
        yield "header: columns names those of a table without a header; remove one of the two settings"
    elif (name := repeated(source.columns)) is not None:
        yield f"columns: names {name!r} twice; give each column its own name"
    named = [key for key in ("header", "columns") if getattr(source, key) is not None]
    if named and not source.may_be_table:
        yield f"{named[-1]}: only a .csv or .tsv has a header; remove this setting, or correct the path"
    if not source.quotes and not source.may_be_table:
        yield "quotes: only a .csv or .tsv has cells in quotes; remove this setting, or correct the path"


def _column_problems(source: "DataSource") -> Iterator[str]:
    """Two parts of a row from one column: usually a name that was changed for one of them only."""
    roles: tuple[str, ...] = ("prompt", "input", "completion", "system", "history")
    if source.messages is not None:
        roles = ("messages", "input", "system")
        if source.history:
            yield "history: messages names a whole conversation, which has its earlier turns; remove one of the two"
    seen: dict[str, str] = {}
    for role in roles:
        column = getattr(source, role)
        if not column:
            continue
        if column in seen:
            yield f"{role}: names the column {column!r}, as {seen[column]} does; each needs its own"
        seen.setdefault(column, role)
    if source.chosen == source.rejected:
        yield f"rejected: names the column {source.rejected!r}, as chosen does; each needs its own"
