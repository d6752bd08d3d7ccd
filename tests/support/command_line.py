"""All commands of the command line, found by walking its tree, with arguments that are well formed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from fedloom.cli import app
from tests.support.scripted import campaign_body


@dataclass(frozen=True)
class Parameter:
    """A parameter that takes a value. option: how it is written; None for an argument."""

    name: str
    option: str | None
    required: bool

    def written(self, value: str) -> list[str]:
        return [value] if self.option is None else [f"{self.option}={value}"]


@dataclass(frozen=True)
class Command:
    """A command. words: its name. parameters: those that take a value."""

    words: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return " ".join(self.words)

    def line(self, folder: Path, **values: str) -> list[str]:
        """A command line with these values, and well-formed ones for what else it needs."""
        given = {name: value for name, value in fillers(folder, self.words).items() if name in self.names} | values
        needed = [each for each in self.parameters if each.required or each.name in given]
        arguments = [each for each in needed if each.option is None]
        parts = [part for each in needed if each.option for part in each.written(given.get(each.name, "x"))]
        extra = ["--show-partition"] if self.words == ("simulate",) else []
        return [*self.words, *parts, *extra, "--", *(given.get(each.name, "x") for each in arguments)]

    @property
    def names(self) -> list[str]:
        return [parameter.name for parameter in self.parameters]


def tree() -> Any:
    """The group of all commands, each imported."""
    group: Any = typer.main.get_command(app)
    for name in group.commands:
        group.load(name)
    return group


def commands() -> list[Command]:
    """Every command that does something; groups are not among them."""
    return list(_below(tree(), ()))


def _below(node: Any, words: tuple[str, ...]) -> Iterator[Command]:
    if children := getattr(node, "commands", None):
        for name, child in children.items():
            yield from _below(child, (*words, name))
        return
    parameters = [
        Parameter(each.name, next(iter(each.opts)) if each.param_type_name == "option" else None, each.required)
        for each in node.params
        if not getattr(each, "is_flag", False)
    ]
    yield Command(words, tuple(parameters))


def global_options() -> list[Parameter]:
    """The options before a command that take a value."""
    params: list[Any] = tree().params
    return [
        Parameter(each.name, each.opts[0], required=False)
        for each in params
        if not getattr(each, "is_flag", False) and each.name not in ("install_completion", "show_completion")
    ]


def write_files(folder: Path) -> None:
    """Write what the well-formed arguments name."""
    body = campaign_body()
    body["data"]["name"] = "rows"
    (folder / "campaign.yaml").write_text(yaml.safe_dump(body))
    (folder / "adapter").mkdir()
    (folder / "a-file").write_text("nothing")
    rows = "".join(f'{{"prompt": "p{number}", "completion": "c", "topic": "t{number % 2}"}}\n' for number in range(9))
    settings = '[data.rows]\npath = "rows.jsonl"\nprompt = "prompt"\ncompletion = "completion"\n'
    for home in (folder, folder / "fedloom-agent"):
        home.mkdir(exist_ok=True)
        (home / "rows.jsonl").write_text(rows)
        (home / "agent.toml").write_text(settings)


def fillers(folder: Path, words: tuple[str, ...]) -> dict[str, str]:
    """Values that are well formed, by the name of the parameter."""
    values = {
        "file": str(folder / "campaign.yaml"),
        "adapter": str(folder / "adapter"),
        "clients": "2",
        "round_number": "1",
        "coordinator": "http://127.0.0.1:9",
        "token": "fle_" + "x" * 43,
        "out": str(folder / "out"),
    }
    if words[-1] == "check-data":
        values["name"] = "rows"
    if words[0] == "coordinator":
        values["data_dir"] = str(folder / "a-file")
    return values
