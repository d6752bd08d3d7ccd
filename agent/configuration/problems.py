"""What is wrong in agent.toml, in an owner's words: the line, the setting, and what to write."""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.configuration.toml_lines import Location
from shared.campaign.file import FileProblem
from shared.text.labels import NAME_RULE

_TOML_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)")
_TOML_HINTS = (
    (re.compile("overwrite|twice|mutate"), "this setting or table is given twice; remove one"),
    (re.compile("Unescaped|hex value"), r"a backslash begins an escape; write the path in single quotes: 'C:\data'"),
    (re.compile("Invalid value"), "the value cannot be read; text must be in quotes"),
)
_WORDS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "path_type": "must be text in quotes",
    "string_type": "must be text in quotes",
    "string_too_short": "must not be empty",
}
_PLAIN_TERMS = {
    "a valid integer, unable to parse string as an integer": "a whole number",
    "a valid integer": "a whole number",
    "a valid number, unable to parse string as a number": "a number",
    "a valid list": "a list",
    "greater than or equal to": "at least",
}


def lines_of(problems: Sequence[FileProblem]) -> str:
    """Name the lines of some problems: "line 3, line 7"."""
    return ", ".join(f"line {line}" for line in sorted({problem.line for problem in problems}))


def syntax_problem(error: tomllib.TOMLDecodeError, text: str) -> FileProblem:
    """Return the problem of a file that is not TOML."""
    match = _TOML_ERROR.fullmatch(str(error))
    reason, line = match.groups() if match is not None else (str(error), None)
    hint = next((words for pattern, words in _TOML_HINTS if pattern.search(reason)), f"not TOML: {reason}")
    return FileProblem(int(line) if line else text.count("\n", 0, len(text.rstrip())) + 1, "", hint)


def problems_by_location(
    error: ValidationError, lines: Mapping[Location, int], model: type[BaseModel]
) -> list[tuple[Location, FileProblem]]:
    """Return each problem with the location of its setting.

    Args:
        error: what the settings' model reports.
        lines: the line of each location of the file.
        model: the settings' model, for the names that it knows.
    """
    found = []
    for detail in error.errors(include_url=False):
        for location, message in _messages(detail, model):
            found.append((location, FileProblem(line_of(location, lines), ".".join(map(str, location)), message)))
    return found


def line_of(location: Location, lines: Mapping[Location, int]) -> int:
    """The line of a location, or of the nearest table around it."""
    return next((lines[location[:size]] for size in range(len(location), 0, -1) if location[:size] in lines), 1)


def _messages(detail: ErrorDetails, model: type[BaseModel]) -> list[tuple[Location, str]]:
    """Describe one of pydantic's errors. A table's own rules report several, one a line: "setting: what to write"."""
    location = detail["loc"]
    kind = detail["type"]
    if location[-1] == "[key]":
        return [(location[:-1], f"a name has {NAME_RULE}")]
    if kind == "extra_forbidden":
        return [(location, _unknown(str(location[-1]), _settings_at(location[:-1], model)))]
    if location == ("compute", "device"):
        return [(location, "must be auto, cpu, mps, cuda, or a GPU such as cuda:1")]
    if kind == "value_error":
        known = _settings_at(location, model)
        parts = (line.partition(": ") for line in detail["msg"].removeprefix("Value error, ").split("\n"))
        return [
            ((*location, setting), message) if setting in known else (location, f"{setting}{colon}{message}")
            for setting, colon, message in parts
        ]
    message = _WORDS.get(kind, detail["msg"].replace("Input should be", "must be"))
    for term, plain in _PLAIN_TERMS.items():
        message = message.replace(term, plain)
    return [(location, message)]


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    rest = f"did you mean {close[0]!r}?" if close else f"known here are {', '.join(known)}"
    return f"there is no such setting; {rest}"


def _settings_at(location: Location, model: type[BaseModel]) -> list[str]:
    """The names of the settings of a table."""
    annotation: Any = model
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field is not None else None
        else:  # a table whose keys are names: its values have the last type
            annotation = (get_args(annotation) or (None,))[-1]
    return list(annotation.model_fields) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
