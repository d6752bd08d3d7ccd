"""The variables FEDLOOM_…, as files of variables and service managers pass them on.

A shell takes off the quotes and the end of a line and replaces a tilde. ``docker --env-file`` and systemd do not: taken
literally, such values make folders that nobody meant, with a new database in them.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fedloom.errors import BadEnvironment

PREFIX = "FEDLOOM_"
_QUOTED = re.compile(r"""(["']).*\1""", re.DOTALL)
_AT_HOME = re.compile(r"~(/|$)")
_OPTION_AT_HOME = re.compile(r"(--[a-z-]+=)(~(?:/.*)?)", re.DOTALL)


def tidy() -> None:
    """Take white space off the ends of every variable, and put the home folder in place of a tilde.

    Raises BadEnvironment for a value in quotes, and for a tilde if there is no home folder.
    """
    for name, value in os.environ.items():
        if name.startswith(PREFIX):
            tidied = _tidied(name, value)
            if tidied != value:
                os.environ[name] = tidied


def _tidied(name: str, value: str) -> str:
    value = value.strip()
    if len(value) > 1 and _QUOTED.fullmatch(value):
        raise BadEnvironment(
            f"{name} has quotes around its value: where no shell reads it, as in a file for docker --env-file, "
            "write it without quotes"
        )
    return at_home(value, name) if _AT_HOME.match(value) else value


def at_home(path: str, where: str) -> str:
    """A path with the home folder in place of its tilde. Raises BadEnvironment, which names *where* it was given."""
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise BadEnvironment(f"{where} names {path}, and this user has no home folder: write the whole path") from error


def with_home(arguments: Sequence[str]) -> list[str]:
    """Arguments with the home folder in ``--option=~/folder``, where no shell puts it. Raises BadEnvironment."""
    found = ((argument, _OPTION_AT_HOME.fullmatch(argument)) for argument in arguments)
    return [each if at is None else at[1] + at_home(at[2], at[1].rstrip("=")) for each, at in found]
