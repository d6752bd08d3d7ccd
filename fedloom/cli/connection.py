"""The global options, and the client that they describe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fedloom.client import Client


@dataclass(frozen=True)
class Connection:
    """The global options. None means the client's default."""

    url: str | None
    key: str | None
    ca_file: Path | None
    insecure: bool


def connect(ctx: typer.Context) -> "Client":
    """A client for the global options. Raises InsecureUrl, MalformedKey, Unreachable and OSError."""
    from fedloom.client import Client

    options: Connection = ctx.obj
    return Client(options.url, options.key, ca_file=options.ca_file, insecure=options.insecure)
