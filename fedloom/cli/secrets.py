"""Secrets that commands take.

``ps`` shows arguments to every user of a machine, so a secret comes from a file, the environment or a terminal.
"""

import sys
from pathlib import Path

import typer

from fedloom.cli import output
from fedloom.errors import InvalidOption
from shared.credentials import read_secret, read_secret_from

STDIN = Path("-")


def warn_if_visible(ctx: typer.Context, param: typer.CallbackParam, value: str | None) -> str | None:
    """A callback of options whose value is a secret: an argument is accepted, with a warning."""
    name = param.name or ""
    if value is not None and is_argument(ctx, name):
        option = f"--{name.replace('_', '-')}"
        output.say(
            f"fedloom: other users of this machine can see {option} in the list of processes; "
            f"use {option}-file or {param.envvar}",
            err=True,
        )
    return value


def is_argument(ctx: typer.Context, name: str) -> bool:
    """Whether a parameter was given on the command line, and not by the environment or a default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def secret_or_file(ctx: typer.Context, name: str) -> tuple[str | None, Path | None]:
    """What was given of a secret and of the file with it: one of the two, or neither.

    Arguments go before the environment, and there the secret before its file. name: the parameter of the secret; that
    of the file ends in ``_file``. Raises typer.BadParameter if both are arguments.
    """
    value, file = ctx.params[name], ctx.params[f"{name}_file"]
    if is_argument(ctx, f"{name}_file"):
        if is_argument(ctx, name):
            message = f"give --{name} or --{name}-file, not both"
            raise typer.BadParameter(message, param_hint=f"--{name}")
        return None, file
    return (value, None) if value else (None, file)


def read(ctx: typer.Context, name: str, file: Path) -> str:
    """The secret in a file, or on standard input for ``-``.

    ctx, name: of the secret's parameter. Raises InvalidOption, which names the option or the variable of the file.
    """
    try:
        return read_secret_from(sys.stdin.buffer, "standard input") if file == STDIN else read_secret(file)
    except OSError as error:
        where = f"--{name}-file" if is_argument(ctx, f"{name}_file") else f"FEDLOOM_{name.upper()}_FILE"
        source = "standard input" if file == STDIN else file
        raise InvalidOption(f"{where} names {source}, which cannot be used: {error.strerror}") from error


def ask(what: str) -> str | None:
    """Ask for a secret on the terminal, without showing it. Returns None if there is no terminal."""
    if not sys.stdin.isatty():
        return None
    return str(typer.prompt(what, hide_input=True, err=True)).strip()
