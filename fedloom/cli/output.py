"""How results look: tables that fit into 80 columns, times and sizes in words, and JSON."""

import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

PIPE_WIDTH = 160

_COLOURS = {
    "running": "cyan",
    "finishing": "cyan",
    "preparing": "cyan",
    "initializing": "cyan",
    "open": "cyan",
    "leased": "cyan",
    "aggregating": "cyan",
    "completed": "green",
    "closed": "green",
    "active": "green",
    "prepared": "green",
    "paused": "yellow",
    "mismatched": "red",
    "failed": "red",
    "revoked": "red",
    "cancelled": "dim",
    "superseded": "dim",
}


def console(*, stderr: bool = False) -> "Console":
    """The terminal. What is written to a pipe is not cut to a terminal's width, unless COLUMNS asks for it."""
    from rich.console import Console

    found = Console(highlight=False, stderr=stderr)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = PIPE_WIDTH
    return found


def table(*columns: str, right: Sequence[str] = (), fold: Sequence[str] = ()) -> "Table":
    """A table without lines. right: columns of numbers. fold: columns that may take several lines."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold" if name in fold else "ellipsis",
            no_wrap=name not in fold,
        )
    return made


def state(value: str) -> "Text":
    """A state in its colour."""
    from rich.text import Text

    return Text(value, style=_COLOURS.get(value, ""))


def print_json(value: "BaseModel | Iterable[BaseModel] | dict[str, Any]") -> None:
    """Print a model, several or a plain object as one JSON document."""
    document: Any
    if isinstance(value, dict):
        document = value
    elif hasattr(value, "model_dump"):
        document = value.model_dump(mode="json")
    else:
        document = [one.model_dump(mode="json") for one in value]
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def ago(at: datetime | None) -> str:
    """A time of the past in words."""
    if at is None:
        return "never"
    return f"{duration((datetime.now(UTC) - at).total_seconds())} ago"


def duration(seconds: float) -> str:
    """A length of time with one unit."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(n_bytes: int) -> str:
    """A number of bytes with a decimal unit."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def loss(value: float | None) -> str:
    """A loss, or nothing."""
    return "" if value is None else f"{value:.4f}"


def share(value: float | None) -> str:
    """A share in percent, or nothing."""
    return "" if value is None else f"{value:.0%}"


def labels(found: dict[str, str]) -> str:
    """Labels as they are given on the command line."""
    return ", ".join(f"{name}={value}" for name, value in sorted(found.items()))
