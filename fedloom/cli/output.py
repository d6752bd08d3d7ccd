"""Formats results: tables that fit into 80 columns, times and sizes with units, and JSON."""

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

_INVISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}

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


def visible(text: str) -> str:
    """Text with control characters escaped, so that they cannot reach a terminal."""
    return text.translate(_INVISIBLE)


def console(*, stderr: bool = False) -> "Console":
    """The terminal. Output to a pipe is PIPE_WIDTH wide, unless COLUMNS is set."""
    from rich.console import Console

    terminal = Console(highlight=False, stderr=stderr)
    if not terminal.is_terminal and "COLUMNS" not in os.environ:
        terminal.width = PIPE_WIDTH
    return terminal


def table(*columns: str, right: Sequence[str] = (), fold: Sequence[str] = ()) -> "Table":
    """An empty table without borders. right: columns to align right. fold: columns that may wrap."""
    from fedloom.cli.plain_table import PlainTable

    new = PlainTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        new.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold" if name in fold else "ellipsis",
            no_wrap=name not in fold,
        )
    return new


def state(value: str) -> "Text":
    """A state in its colour."""
    from rich.text import Text

    return Text(value, style=_COLOURS.get(value, ""))


def print_json(value: "BaseModel | Iterable[BaseModel] | dict[str, Any]") -> None:
    """Print a model, a list of models or a dict as one JSON document."""
    document: Any
    if isinstance(value, dict):
        document = value
    elif hasattr(value, "model_dump"):
        document = value.model_dump(mode="json")
    else:
        document = [model.model_dump(mode="json") for model in value]
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def ago(moment: datetime | None) -> str:
    """How long ago a time is; "never" for None."""
    if moment is None:
        return "never"
    return f"{duration((datetime.now(UTC) - moment).total_seconds())} ago"


def duration(seconds: float) -> str:
    """A duration with one unit."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(n_bytes: int) -> str:
    """A number of bytes with a decimal unit (kB, MB, …)."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def loss(value: float | None) -> str:
    """A loss; empty for None."""
    return "" if value is None else f"{value:.4f}"


def labels(values: dict[str, str]) -> str:
    """Labels as the command line takes them."""
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
