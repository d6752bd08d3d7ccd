"""The files of ``deploy/``, read."""

import re
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
DROP_INS = sorted(DEPLOY.glob("systemd/*.service.d/*.conf"))


def compose() -> dict[str, Any]:
    """The compose file."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def unit(path: Path) -> dict[str, list[str]]:
    """A unit's settings by name; each assignment is an item, and an empty one starts over."""
    settings: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if not equals or line.startswith("#"):
            continue
        settings[name] = [*settings[name], value] if value or name == "CapabilityBoundingSet" else []
    return settings


def dockerfile() -> list[str]:
    """The Dockerfile's instructions, each in one line."""
    text = re.sub(r"\\\n", "", (DEPLOY / "Dockerfile").read_text())
    return [" ".join(line.split()) for line in text.splitlines() if line and not line.startswith("#")]


def command_lines() -> dict[str, list[str]]:
    """The commands that the files start, without the program, by the file that holds them."""
    found = {path.name: unit(path)["ExecStart"] for path in (*UNITS, *DROP_INS)}
    lines = {name: shlex.split(line) for name, [line] in ((name, lines) for name, lines in found.items() if lines)}
    [command] = [line for line in dockerfile() if line.startswith("CMD")]
    lines["Dockerfile"] = yaml.safe_load(command.removeprefix("CMD "))
    assert {Path(argv[0]).name for argv in lines.values()} == {"fedloom"}
    return {name: argv[1:] for name, argv in lines.items()}
