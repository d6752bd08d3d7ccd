"""Environment variables that look like settings and that nothing reads: a misspelt one would have no effect."""

import difflib
import logging
import os
import re
from typing import TYPE_CHECKING

from fedloom.errors import BadEnvironment
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from pydantic import BaseModel

log = logging.getLogger(__name__)

OF_COMMANDS = frozenset(
    f"FEDLOOM_{name}"
    for name in (
        "URL", "KEY", "KEY_FILE", "CA_FILE", "DEBUG", "TOKEN", "TOKEN_FILE", "AGENT_HOME", "DATA_DIR", "DATABASE_URL",
        "EVALUATION_DATA", "JUDGE_KEY",
    )
)  # fmt: skip
"""Variables of options. A container may have them beside the coordinator's settings."""
_OF_TESTS = re.compile(r"FEDLOOM_(CRASH_AT|CRASH_NOTES|FAULT_SEED|RECORDED|BENCH)")
_OF_KUBERNETES = re.compile(
    r"FEDLOOM_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)=.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*|PORT=\w+://.*)"
)
"""What Kubernetes gives each container for a Service named fedloom, or fedloom-…: names with values."""


def check_names(settings: "type[BaseModel]", prefix: str) -> None:
    """Log each variable with this prefix that nothing reads, with the one that was probably meant.

    Raises BadEnvironment for a name with two underscores, as only the settings have it. The values may be secrets, so
    they are not repeated.
    """
    groups, single = _names(settings, prefix)
    known = groups | single | OF_COMMANDS
    unread = [name for name in os.environ if name.upper().startswith(prefix) and name.upper() not in known]
    for name in unread:
        if _OF_TESTS.fullmatch(name) or _OF_KUBERNETES.fullmatch(f"{name}={os.environ[name]}"):
            continue
        hint = _hint(name.upper(), single | OF_COMMANDS)
        message = f"{visible_line(name)} has no effect: not a setting of a coordinator{hint}"
        if "__" in name:
            raise BadEnvironment(message)
        log.warning("%s", message)


def misspelt(variable: str) -> str:
    """A hint for a person who misses what *variable* gives: a name like it that is set and that nothing reads."""
    meant = (name for name in sorted(os.environ) if name not in OF_COMMANDS and _hint(name, {variable}))
    return next((f"; {visible_line(name)} has no effect: did you mean {variable}?" for name in meant), "")


def _names(settings: "type[BaseModel]", prefix: str) -> tuple[set[str], set[str]]:
    """The variables of groups of settings, which take JSON, and those of single settings."""
    groups: set[str] = set()
    single: set[str] = set()
    for name, field in settings.model_fields.items():
        variable, group = (prefix + name).upper(), field.annotation
        if isinstance(group, type) and hasattr(group, "model_fields"):
            groups.add(variable)
            single |= _names(group, f"{variable}__")[1]
        else:
            single.add(variable)
    return groups, single


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""
