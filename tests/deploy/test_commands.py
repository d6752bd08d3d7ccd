"""The deployment's files start commands that exist, with variables that are read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from coordinator.settings import Settings
from fedloom.cli import app
from tests.deploy.files import DEPLOY, command_lines
from tests.support.command_line import tree


@pytest.mark.parametrize("name", command_lines())
def test_the_command_line_is_accepted(name: str, tmp_path: Path) -> None:
    for credential in ("chain.pem", "key.pem"):
        (tmp_path / credential).touch()
    rest = [argument.replace("%d", str(tmp_path)) for argument in command_lines()[name]]
    command: Any = typer.main.get_command(app)
    context = command.make_context("fedloom", rest, resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        called, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(called, rest, parent=context)
    assert command.name in ("serve", "run")


def test_every_variable_of_fedloom_is_one_that_it_reads() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    named = set(re.findall(r"FEDLOOM_[A-Z_]+", "".join(path.read_text() for path in files)))
    assert {"FEDLOOM_DATA_DIR", "FEDLOOM_DATABASE_URL", "FEDLOOM_AGENT_HOME"} <= named
    assert named <= {*settings(), *options()}


def settings() -> Iterator[str]:
    """The variables that the coordinator's settings read."""
    for name, field in Settings.model_fields.items():
        yield f"FEDLOOM_{name.upper()}"
        for below in getattr(field.annotation, "model_fields", {}):
            yield f"FEDLOOM_{name.upper()}__{below.upper()}"


def options() -> Iterator[str]:
    """The variables that options of commands read."""

    def walk(command: Any) -> Iterator[str]:
        yield from (each.envvar for each in command.params if isinstance(each.envvar, str))
        for below in getattr(command, "commands", {}).values():
            yield from walk(below)

    return walk(tree())
