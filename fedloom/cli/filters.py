"""Options that several lists have: spans of time and labels."""

from datetime import datetime
from typing import Annotated

import typer


def _time(text: str) -> datetime:
    from shared.text.times import read_time

    try:
        return read_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Since = Annotated[
    datetime | None,
    typer.Option("--since", parser=_time, metavar="TIME", help="Only from this time on, such as 2026-01-31T12:00:00Z."),
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", parser=_time, metavar="TIME", help="Only before this time, such as 2026-01-31T12:00:00Z."),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="Only with this label. May be repeated; then all must match."),
]


def read_labels(given: list[str] | None) -> dict[str, str]:
    """Labels from the command line. Raises typer.BadParameter for one that has another form."""
    from shared.text.labels import read_label

    try:
        return dict(map(read_label, given or []))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--label") from error
