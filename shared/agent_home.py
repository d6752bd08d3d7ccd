"""An agent's home folder in the commands that an owner is told to type."""

import shlex
from pathlib import Path

DEFAULT_HOME = Path("fedloom-agent")
"""The home folder of a command without ``--home``, in the current folder."""


def home_option(home: Path) -> str:
    """The end of a command line that means a home folder; empty where commands find it by themselves."""
    return "" if home.resolve() == DEFAULT_HOME.resolve() else f" --home {shlex.quote(str(home))}"
