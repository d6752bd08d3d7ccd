"""Formats results: tables that fit into 80 columns, times and sizes with units, and JSON."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.text.plain_text import visible, visible_json, visible_line
from shared.text.quantities import bounded as bounded
from shared.text.quantities import duration as duration
from shared.text.quantities import size as size

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from shared.wire.agents import AgentView

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

PIPE_WIDTH = 160
_LARGE_LOSS = 1e6

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
    "waiting": "yellow",
    "mismatched": "red",
    "failed": "red",
    "revoked": "red",
    "cancelled": "dim",
    "left": "dim",
    "superseded": "dim",
}


def is_terminal() -> bool:
    """Whether a person reads the output as it comes. There may be no output at all."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text without control characters. nl: end the line."""
    typer.echo(visible(text), err=err, nl=nl)


def console(*, stderr: bool = False) -> "Console":
    """The terminal. Output to a pipe is PIPE_WIDTH wide, unless COLUMNS is set."""
    from fedloom.cli.plain_console import PlainConsole

    terminal = PlainConsole(highlight=False, markup=False, emoji=False, stderr=stderr)
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


def grid() -> "Table":
    """An empty table without a header, for what is drawn side by side."""
    from fedloom.cli.plain_table import PlainTable

    return PlainTable.grid(padding=(0, 2, 0, 0))


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
    _say_json(json.dumps(document, indent=2, ensure_ascii=False))


def print_json_line(document: dict[str, Any]) -> None:
    """Print a dict as one line of JSON."""
    _say_json(json.dumps(document, ensure_ascii=False))


def _say_json(document: str) -> None:
    """Print a JSON document whose strings hold only what the output can take; the rest is escaped as in JSON."""
    try:
        document.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        document = json.dumps(json.loads(document), indent=2 if "\n" in document else None)
    typer.echo(visible_json(document))


def ago(moment: datetime | None) -> str:
    """How long ago a time is; "never" for None."""
    if moment is None:
        return "never"
    return f"{duration((datetime.now(UTC) - moment).total_seconds())} ago"


def since(moment: datetime) -> str:
    """A past time for "since": "14:02" on the same day, otherwise with the date, in the time zone of this machine."""
    at = moment.astimezone()
    same_day = at.date() == datetime.now().astimezone().date()
    return f"{at:%H:%M}" if same_day else f"{at:%Y-%m-%d %H:%M}"


def presence(agent: "AgentView") -> "Text":
    """An agent's state, or since when it has been away."""
    from rich.text import Text

    return state(agent.state) if agent.away_since is None else Text(f"away since {since(agent.away_since)}", "yellow")


def some_of(names: Sequence[str], n_shown: int) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - n_shown
    return visible_line(", ".join(names[:n_shown])) + (f" and {rest} more" if rest > 0 else "")


def blocks(widths: Mapping[str, int], width: int) -> list[list[str]]:
    """Columns in groups that fit into *width* characters side by side; each group has at least one.

    widths: the width of each column by its title.
    """
    groups: list[list[str]] = []
    left = 0
    for title, needed in widths.items():
        if not groups or needed > left:
            groups.append([])
            left = width
        groups[-1].append(title)
        left -= needed + 2
    return groups


def loss(value: float | None) -> str:
    """A loss; empty for None."""
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < _LARGE_LOSS else f"{value:.4g}"


def labels(values: dict[str, str]) -> str:
    """Labels as the command line takes them."""
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
