"""Shows a partition: in colours on a terminal, in letters in a pipe, and as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from fedloom.simulation.partition_plan import PartitionPlan

COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red")
"""Colours of the most common values, from the terminal's own palette so that they suit its background."""
OTHER_COLOUR = "bright_black"
LETTERS = "ABCDEF"
OTHER_LETTER = "."
"""Letters of the same values, for output without colours."""

BAR_WIDTH = 24
NAME_WIDTH = 16
VALUE_WIDTH = 12
TOP_VALUES = 2


def show(
    names: Sequence[str], parts: Sequence[NDArray[np.int64]], values: Sequence[str] | None, plan: PartitionPlan
) -> RenderableType:
    """The plan, a line with a bar for each client, and a summary.

    Args:
        names: Names of the clients.
        parts: For each client the indices of its rows.
        values: For each row its value in the column ``plan.by``. None if the plan uses no column.
        plan: The kind of partition.
    """
    sizes = [len(part) for part in parts]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("CLIENT", max_width=NAME_WIDTH, no_wrap=True)
    table.add_column("ROWS", justify="right", no_wrap=True)
    table.add_column("SIZE" if values is None else "ROWS BY VALUE", no_wrap=True)
    if values is None:
        for name, size in zip(names, sizes, strict=True):
            table.add_row(name, f"{size:,}", Bar((size,), max(sizes)))
        return Group(Text(str(plan)), "", table, "", _summary(sizes))
    table.add_column("MOST COMMON")  # rich narrows only columns that may wrap; the cells themselves do not wrap
    common = [value for value, _ in Counter(values).most_common(len(COLOURS))]
    for name, counts in zip(names, _counts(parts, values), strict=True):
        common_counts = [counts[value] for value in common]
        size = counts.total()
        bar = Bar((*common_counts, size - sum(common_counts)), max(sizes))
        table.add_row(name, f"{size:,}", bar, _top(counts))
    legend = Legend(common, has_other=len(set(values)) > len(common))
    return Group(Text(_printable(str(plan))), legend, "", table, "", _summary(sizes))


def as_json(
    names: Sequence[str], parts: Sequence[NDArray[np.int64]], values: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """For each client ``rows``, the number of its rows. With values also ``values``: rows by value, most common
    first."""
    if values is None:
        return {name: {"rows": len(part)} for name, part in zip(names, parts, strict=True)}
    return {
        name: {"rows": counts.total(), "values": dict(counts.most_common())}
        for name, counts in zip(names, _counts(parts, values), strict=True)
    }


@dataclass(frozen=True)
class Bar:
    """A bar of several counts. Its length is in proportion to their sum; the sum *full* takes the whole width."""

    counts: tuple[int, ...]
    full: int

    def cells(self) -> list[int]:
        """Terminal cells of each count; at least one cell in all."""
        total = sum(self.counts)
        length = max(1, round(BAR_WIDTH * total / self.full))
        # rounding the running sum makes the cells add up to the length
        ends = [round(end / total * length) for end in accumulate(self.counts)]
        return [end - start for start, end in pairwise([0, *ends])]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if len(self.counts) == 1:
            yield Segment("█" * self.cells()[0])
            return
        for index, cells in enumerate(self.cells()):
            yield _mark(console, index, cells)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(BAR_WIDTH, BAR_WIDTH)


@dataclass(frozen=True)
class Legend:
    """The colour or letter of each value."""

    common: Sequence[str]
    has_other: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [Text()]
        for index, value in enumerate([*self.common, *(["other"] if self.has_other else [])]):
            mark = _mark(console, index)
            entry = Text.assemble((mark.text, mark.style or ""), f" {_short(value)}  ")
            if lines[-1].cell_len + entry.cell_len > options.max_width:
                lines.append(Text())
            lines[-1].append_text(entry)
        yield from lines


def _mark(console: Console, index: int, cells: int = 1) -> Segment:
    """Cells in the colour, or with the letter, of the value at *index*. Past the last colour: of all other values."""
    is_other = index >= len(COLOURS)
    if console.color_system is None or console.no_color:
        return Segment((OTHER_LETTER if is_other else LETTERS[index]) * cells)
    return Segment("█" * cells, Style(color=OTHER_COLOUR if is_other else COLOURS[index]))


def _counts(parts: Sequence[NDArray[np.int64]], values: Sequence[str]) -> list[Counter[str]]:
    return [Counter(values[row] for row in part.tolist()) for part in parts]


def _top(counts: Counter[str]) -> Text:
    """The most common values with their shares, and the number of further values."""
    total = counts.total()
    shares = ", ".join(f"{_short(value)} {n / total:.0%}" for value, n in counts.most_common(TOP_VALUES))
    more = len(counts) - TOP_VALUES
    return Text(f"{shares} +{more}" if more > 0 else shares, no_wrap=True, overflow="ellipsis")


def _short(value: str) -> str:
    text = Text(_printable(value))
    text.truncate(VALUE_WIDTH, overflow="ellipsis")
    return text.plain


def _printable(text: str) -> str:
    """Text without characters that could move the cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _summary(sizes: Sequence[int]) -> str:
    return (
        f"{sum(sizes):,} rows, {len(sizes)} clients: "
        f"smallest {min(sizes):,}, median {median(sizes):,.0f}, largest {max(sizes):,}"
    )
