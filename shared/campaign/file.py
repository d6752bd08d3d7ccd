"""Reads campaign files and other settings files, YAML or JSON; errors name the line and the field of every problem."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared import kinds
from shared.campaign.spec import CampaignSpec
from shared.text.text_file import read_text
from shared.wire.words import pattern_in_words

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class FileProblem:
    """One problem: the line (from 1), the dotted path of the field, and what to do."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.message}" if self.field else f"line {self.line}: {self.message}"


class CampaignFileError(ValueError):
    """The file is invalid. ``problems`` lists every problem, by line."""

    def __init__(self, source: str, problems: Sequence[FileProblem]) -> None:
        self.source = source
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(f"{source}, {problem}" for problem in self.problems))


def read_campaign_file(path: Path) -> CampaignSpec:
    """Read a campaign from a file. Raises OSError and CampaignFileError."""
    return read_file(path, CampaignSpec)


def parse_campaign(text: str, source: str = "campaign") -> CampaignSpec:
    """Read a campaign from YAML text; JSON is valid YAML. Raises CampaignFileError."""
    return _parse(text, CampaignSpec, source)


def located(path: Path, problems: Sequence[tuple[Location, str]]) -> CampaignFileError:
    """The error of a file that could be read, for problems that show once its values are used. Raises OSError.

    problems: the keys and indexes that lead to a value, and what is wrong with it.
    """
    lines: dict[Location, int] = {}
    root = yaml.compose(_as_yaml(read_text(path)), Loader=yaml.SafeLoader)
    if root is not None:
        _index(root, (), lines, str(path))
    found = [FileProblem(_line_of(place, lines), _dots(place), message) for place, message in problems]
    return CampaignFileError(str(path), found)


def read_file(path: Path, model: type[M]) -> M:
    """Read a *model* from a YAML or JSON file. Raises OSError and CampaignFileError."""
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise CampaignFileError(str(path), [FileProblem(1, "", f"not UTF-8 text: {error}")]) from error
    return _parse(text, model, str(path))


def _parse(text: str, model: type[M], source: str) -> M:
    lines: dict[Location, int] = {}
    text = _as_yaml(text)
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):  # an alias can make a value that contains itself
                line = token.start_mark.line + 1
                raise CampaignFileError(source, [FileProblem(line, "", "aliases are not read; write the value out")])
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise CampaignFileError(source, [FileProblem(1, "", "the file is empty")])
        _index(root, (), lines, source)
        value = yaml.safe_load(text)
    except CampaignFileError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CampaignFileError(source, [FileProblem(line, "", error.problem or "not YAML")]) from error
    except yaml.YAMLError as error:
        raise CampaignFileError(source, [FileProblem(1, "", f"not YAML: {error}")]) from error
    except (ValueError, LookupError, AttributeError, RecursionError) as error:  # from PyYAML, for example at 2024-13-01
        raise CampaignFileError(source, [FileProblem(1, "", f"a value cannot be read: {error}")]) from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise CampaignFileError(source, _problems(error, value, lines, model)) from error


def _as_yaml(text: str) -> str:
    """JSON may be indented with tabs, which YAML forbids."""
    return text.replace("\t", "  ") if text.lstrip().startswith("{") else text


def _line_of(path: Location, lines: Mapping[Location, int]) -> int:
    """The line of a value, or of the nearest one around it that the file has."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _index(node: yaml.Node, path: Location, lines: dict[Location, int], source: str) -> None:
    """Fill *lines* with the line of every value. Refuses duplicate keys, which YAML accepts."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise CampaignFileError(source, [FileProblem(line, _dots(path), "a key must be a plain word")])
            child_path = (*path, key.value)
            if child_path in lines:
                raise CampaignFileError(
                    source, [FileProblem(line, _dots(child_path), f"given twice, first on line {lines[child_path]}")]
                )
            lines[child_path] = line
            _index(child, child_path, lines, source)
    elif isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            _index(child, (*path, position), lines, source)


def _problems(
    error: ValidationError, value: object, lines: dict[Location, int], model: type[BaseModel]
) -> list[FileProblem]:
    by_path: dict[Location, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _keys_of(detail["loc"], value, keep_last=detail["type"] == "missing")
        for message in messages_of(detail, path, model):
            message_path, text = _with_prefix(path, message, lines)
            messages = by_path.setdefault(message_path, [])
            if text not in messages:
                messages.append(text)
    # a union reports every branch: if one branch matched further down, only its errors help
    parents = {path[:size] for path in by_path for size in range(len(path))}
    problems = []
    for path, messages in by_path.items():
        useful = [text for text in messages if path not in parents or not text.startswith("Input should be")]
        if useful:
            problems.append(FileProblem(_line_of(path, lines), _dots(path), ", or: ".join(useful)))
    return problems


def messages_of(detail: ErrorDetails, path: Location, model: type[BaseModel]) -> list[str]:
    """Translate one of pydantic's errors. A section's own rules may report several problems, one per line."""
    match detail["type"]:
        case "extra_forbidden":
            return [_unknown_field(path, model)]
        case "missing":
            return ["this field is needed"]
        case "model_type":
            return [f"needs fields of its own: {', '.join(_fields_at(path, model))}"]
        case "string_pattern_mismatch" if path == ("start_from",):
            return ["give CAMPAIGN/final, CAMPAIGN/best or CAMPAIGN/NUMBER, the campaign by its id or its name"]
        case "string_pattern_mismatch":
            return [pattern_in_words(detail)]
        case _:
            return detail["msg"].removeprefix("Value error, ").split("\n")


def _with_prefix(path: Location, message: str, lines: dict[Location, int]) -> tuple[Location, str]:
    """Move a section's message ``params.mu: ...`` to the field that its prefix names, given or left out of a section
    that is given."""
    prefix, colon, rest = message.partition(": ")
    field_path = (*path, *prefix.split("."))
    return (field_path, rest) if colon and field_path[: len(path) + 1] in lines else (path, message)


def _keys_of(loc: Location, value: object, *, keep_last: bool) -> Location:
    """Return an error's path without the union branches that pydantic puts into it: the keys of the file alone."""
    path: Location = ()
    for position, part in enumerate(loc):
        if isinstance(value, Mapping) and part in value:  # noqa: SIM114 (mypy narrows one at a time)
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        elif not (keep_last and position == len(loc) - 1):
            continue
        path = (*path, part)
    return path


def _dots(path: Location) -> str:
    return ".".join(str(part) for part in path)


def _unknown_field(path: Location, model: type[BaseModel]) -> str:
    known = _fields_at(path[:-1], model)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    if close:
        return f"unknown field; did you mean {close[0]!r}?"
    return f"unknown field; known here are {', '.join(known)}" if known else "unknown field"


def _fields_at(path: Location, model: type[BaseModel]) -> list[str]:
    """The field names of the section at *path*."""
    for part in path:
        section = _section_at(str(part), model)
        if section is None:
            return []
        model = section
    fields = list(model.model_fields)
    if model is CampaignSpec:
        fields += [name for name in kinds.bundled() if kinds.find(name).section.model_fields]
    return fields


def _section_at(name: str, model: type[BaseModel]) -> type[BaseModel] | None:
    """The model of a section, also of one that may be left out; None if there is none of this name."""
    field = model.model_fields.get(name)
    if field is not None:
        return section_of(field.annotation)
    return kinds.find(name).section if model is CampaignSpec and name in kinds.names() else None


def section_of(annotation: object) -> type[BaseModel] | None:
    """The model that a field's annotation names, ``Model`` or ``Model | None``; None if it names none."""
    choices = [each for each in get_args(annotation) or (annotation,) if each is not NoneType]
    if len(choices) == 1 and isinstance(choices[0], type) and issubclass(choices[0], BaseModel):
        return choices[0]
    return None
