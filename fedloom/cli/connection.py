"""Where the coordinator is, by the global options."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fedloom.client import Client


@dataclass(frozen=True)
class Connection:
    """The global options; None is left to the client's defaults."""

    url: str | None
    key: str | None
    ca_file: Path | None
    insecure: bool


def connect(ctx: typer.Context) -> "Client":
    """A client by the global options. Raises errors.InsecureUrl, errors.Unreachable and OSError."""
    from fedloom.client import Client

    at: Connection = ctx.obj
    return Client(at.url, at.key, ca_file=at.ca_file, insecure=at.insecure)
