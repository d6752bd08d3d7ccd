"""A group that imports a command when it is called. Its own help has a line for each, and imports none of them."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Later:
    """A command that is not imported yet.

    place: ``module:name`` of its function, or of the typer.Typer with its commands. line: the first of its help.
    """

    place: str
    line: str


class LazyGroup(TyperGroup):
    """A group of ``later``, in this order."""

    later: ClassVar[Mapping[str, Later]]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, command in self.later.items():
            self.add_command(TyperCommand(name=name, help=command.line))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is called, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.load(name), rest

    def load(self, name: str) -> Any:
        """Import a command, and put it in the place of its line. Returns it."""
        module, _, attribute = self.later[name].place.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        around = typer.Typer()
        around.callback()(_nothing)  # makes it a group, also of a single command
        if isinstance(found, typer.Typer):
            around.add_typer(found, name=name)
        else:
            around.command(name)(found)
        group: Any = typer.main.get_command(around)
        self.add_command(group.commands[name])
        return self.commands[name]


def _nothing() -> None:
    """The callback of a group that only holds a command."""
