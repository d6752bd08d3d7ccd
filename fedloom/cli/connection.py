"""The global options, and the client that they describe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from fedloom.cli import secrets

if TYPE_CHECKING:
    from fedloom.client import Client


@dataclass(frozen=True)
class Connection:
    """The global options. None means the client's default. key, key_file: at most one is given."""

    url: str | None
    key: str | None
    key_file: Path | None
    ca_file: Path | None
    insecure: bool


def connect(ctx: typer.Context) -> "Client":
    """A client for the global options. Raises InsecureUrl, BadUrl, InvalidOption, MalformedKey and OSError."""
    from fedloom.client import Client

    options: Connection = ctx.obj
    key = (
        secrets.read(cast("typer.Context", ctx.find_root()), "key", options.key_file)
        if options.key_file is not None
        else options.key
    )
    return Client(options.url, key, ca_file=options.ca_file, insecure=options.insecure)
