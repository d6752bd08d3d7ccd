"""What a script of this folder measured, as rows of a table of docs/benchmarks.md.

A script that stands for rows of that page calls ``add_option`` and ``write``, and ``report.py`` names it:

    add_option(parser)
    write(given.json, [Row("round of 1 KB, 2 agents", 0.052, "s", goal=at_most(0.06))])
    write(given.json, [Row("round of 25 MB", 0.41, "s", Ratio(1.6, "a bare server"), at_most(1.7, "ratio"))])
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Of = Literal["value", "ratio"]


@dataclass(frozen=True)
class Ratio:
    """The value divided by that of a reference, which the same run measured."""

    value: float
    to: str


@dataclass(frozen=True)
class Goal:
    """The most, or the least, that a row's value, or its ratio, should be."""

    limit: float
    of: Of
    is_most: bool

    def is_met(self, number: float) -> bool:
        """Whether a value, or a ratio, is within the limit."""
        return number <= self.limit if self.is_most else number >= self.limit


@dataclass(frozen=True)
class Row:
    """One measured number. what: with the sizes that it depends on. conditions: what else was set, in words."""

    what: str
    value: float
    unit: str
    ratio: Ratio | None = None
    goal: Goal | None = None
    conditions: str = ""


def at_most(limit: float, of: Of = "value") -> Goal:
    """The goal to stay at a limit or below it."""
    return Goal(limit, of, is_most=True)


def at_least(limit: float, of: Of = "value") -> Goal:
    """The goal to reach a limit."""
    return Goal(limit, of, is_most=False)


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, where ``write`` finds it."""
    parser.add_argument("--json", type=Path, help="A file for the rows of docs/benchmarks.md.")


def write(path: Path | None, rows: Iterable[Row]) -> None:
    """Write rows where ``--json`` wants them, if it was given."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False), encoding="utf-8")


def read(path: Path) -> list[Row]:
    """Read what ``write`` wrote."""
    return [_row(each) for each in json.loads(path.read_text(encoding="utf-8"))]


def _row(each: dict[str, Any]) -> Row:
    parts = {"ratio": Ratio, "goal": Goal}
    return Row(**{key: parts[key](**part) if part and key in parts else part for key, part in each.items()})


def table(rows: Iterable[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| measured | value | in the same run | goal |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        what = f"{row.what} ({row.conditions})" if row.conditions else row.what
        value = f"{number(row.value)} {row.unit}".strip()
        lines.append(f"| {what} | {value} | {_ratio(row.ratio)} | {_goal(row)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """A number with three digits, or without decimals."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(ratio: Ratio | None) -> str:
    return f"{_times(ratio.value)} {ratio.to}" if ratio else ""


def _times(ratio: float) -> str:
    return f"{100 * ratio:.0f}% of" if ratio < 1 else f"{number(ratio)} ×"


def _goal(row: Row) -> str:
    """The goal in words; in bold where it is missed."""
    goal = row.goal
    if goal is None:
        return ""
    reached = row.value if goal.of == "value" else row.ratio.value if row.ratio else None
    if reached is None:
        raise ValueError(f"{row.what}: a goal for a ratio, and no ratio")
    limit = f"{number(goal.limit)} {row.unit}".strip() if goal.of == "value" else _times(goal.limit).removesuffix(" of")
    words = f"{'≤' if goal.is_most else '≥'} {limit}"
    return words if goal.is_met(reached) else f"**{words}: missed**"
