"""The data of tasks as lines: what of it is here, its digest and licence, and below that where to get it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from textwrap import wrap

from fedloom.evaluation.data.file_groups import FileGroup, groups_of
from fedloom.evaluation.data.listing import ListedFile, ListedTask
from shared.text.plain_text import visible_line

_SHORT = 12
"""Hexadecimal digits of a digest that are shown; all are in the JSON."""
_HEAD = ("DATA", "STATE", "SHA-256", "LICENCE")
_LEGEND = "SHA-256: published; other, as slices and converted files have; unknown: which one was published is not known"
_INDENT = "    "


def data_lines(tasks: Sequence[ListedTask], width: int) -> Iterator[str]:
    """Lines on the data of tasks, each file or group of files once."""
    files = {file.file.path: file for task in tasks for file in task.files}
    rows = {group: _cells(group, files) for group in groups_of(file.file for file in files.values())}
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows.values(), strict=True)]
    yield _line(_HEAD, widths)
    for where, alike in groupby(rows, lambda group: group.files[0].where):
        yield from (_line(rows[group], widths) for group in alike)
        yield from wrap(
            visible_line(where), width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False
        )
    yield from wrap(_LEGEND, width)


def name_of(group: FileGroup) -> str:
    """The name of a group; one that is read in the place of another says so."""
    return f"or {group.name}" if group.files[0].instead_of else group.name


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(group: FileGroup, files: Mapping[str, ListedFile]) -> tuple[str, str, str, str]:
    found = [files[file.path] for file in group.files]
    cells = name_of(group), _state(found), _digest(found), group.licence or "not stated"
    return visible_line(cells[0]), cells[1], cells[2], visible_line(cells[3])


def _state(found: Sequence[ListedFile]) -> str:
    if len(found) > 1:
        return f"{sum(file.state == 'here' for file in found)} of {len(found)} here"
    (file,) = found
    return file.state if file.path in (None, file.file.path) else f"here as {file.path}"


def _digest(found: Sequence[ListedFile]) -> str:
    """Of one file its digest; of several how many are as published."""
    if len(found) > 1:
        counts = Counter(file.edition or "missing" for file in found)
        return ", ".join(f"{n} {edition}" for edition, n in counts.items())
    (file,) = found
    if file.sha256 is not None:
        return f"{file.sha256[:_SHORT]} {file.edition}"
    return f"{file.file.sha256[0][:_SHORT]} published" if file.file.sha256 else "unknown"
