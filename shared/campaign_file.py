"""Reads a campaign file, or another of its kind, YAML or JSON, and says the line and the field of all that is wrong."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.campaign import CampaignSpec

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class FileProblem:
    """One thing that is wrong: the line (from 1), the field in dots, and what to do."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.message}" if self.field else f"line {self.line}: {self.message}"


class CampaignFileError(ValueError):
    """A campaign file, or another of its kind, cannot be used. ``problems`` lists all that is wrong, by line."""

    def __init__(self, source: str, problems: Sequence[FileProblem]) -> None:
        self.source = source
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(f"{source}, {problem}" for problem in self.problems))


def read_campaign_file(path: Path) -> CampaignSpec:
    """The campaign in a file. Raises OSError and CampaignFileError."""
    return read_file(path, CampaignSpec)


def parse_campaign(text: str, source: str = "campaign") -> CampaignSpec:
    """The campaign in a text; JSON is read as the YAML that it is. Raises CampaignFileError."""
    return _parse(text, CampaignSpec, source)


def read_file(path: Path, model: type[M]) -> M:
    """What *model* describes, in a file. Raises OSError and CampaignFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CampaignFileError(str(path), [FileProblem(1, "", f"not UTF-8 text: {error}")]) from error
    return _parse(text, model, str(path))


def _parse(text: str, model: type[M], source: str) -> M:
    lines: dict[Location, int] = {}
    if text.lstrip().startswith("{"):
        text = text.replace("\t", "  ")  # JSON may be indented with tabs, which YAML forbids
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):  # it could make a value that holds itself
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
    except (ValueError, LookupError, AttributeError, RecursionError) as error:  # PyYAML, at 2024-13-01 for one
        raise CampaignFileError(source, [FileProblem(1, "", f"a value cannot be read: {error}")]) from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise CampaignFileError(source, _problems(error, value, lines, model)) from error


def _index(node: yaml.Node, at: Location, lines: dict[Location, int], source: str) -> None:
    """Write down the line of every value; refuse keys that are given twice, which YAML would let pass."""
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise CampaignFileError(source, [FileProblem(line, _dots(at), "a key must be a plain word")])
            here = (*at, key.value)
            if here in lines:
                raise CampaignFileError(
                    source, [FileProblem(line, _dots(here), f"given twice, first on line {lines[here]}")]
                )
            lines[here] = line
            _index(child, here, lines, source)
    elif isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            _index(child, (*at, position), lines, source)


def _problems(
    error: ValidationError, value: object, lines: dict[Location, int], model: type[BaseModel]
) -> list[FileProblem]:
    found: dict[Location, list[str]] = {}
    for detail in error.errors(include_url=False):
        at = _keys_of(detail["loc"], value, keep_last=detail["type"] == "missing")
        for message in _messages(detail, at, model):
            at_message, text = _with_prefix(at, message, lines)
            messages = found.setdefault(at_message, [])
            if text not in messages:
                messages.append(text)
    # a union reports every branch: where one of them got further, only what it met is of use
    further = {at[:size] for at in found for size in range(len(at))}
    problems = []
    for at, messages in found.items():
        wanted = [text for text in messages if at not in further or not text.startswith("Input should be")]
        line_at = at
        while line_at and line_at not in lines:
            line_at = line_at[:-1]
        if wanted:
            problems.append(FileProblem(lines.get(line_at, 1), _dots(at), ", or: ".join(wanted)))
    return problems


def _messages(detail: ErrorDetails, at: Location, model: type[BaseModel]) -> list[str]:
    """What to tell of one of pydantic's errors. A section's own rules may report several things, one a line."""
    match detail["type"]:
        case "extra_forbidden":
            return [_unknown_field(at, model)]
        case "missing":
            return ["this field is needed"]
        case "model_type":
            return [f"needs fields of its own: {', '.join(_fields_at(at, model))}"]
        case "string_pattern_mismatch" if at == ("start_from",):
            return ["give CAMPAIGN/final, CAMPAIGN/best or CAMPAIGN/NUMBER, the campaign by its id or its name"]
        case "string_pattern_mismatch":
            return ["only letters, digits, '.', '_' and '-', at most 63 of them, the first a letter or a digit"]
        case _:
            return detail["msg"].removeprefix("Value error, ").split("\n")


def _with_prefix(at: Location, message: str, lines: dict[Location, int]) -> tuple[Location, str]:
    """Move ``params.mu: ...``, said of a section, to the field that it begins with."""
    prefix, colon, rest = message.partition(": ")
    further = (*at, *prefix.split("."))
    return (further, rest) if colon and further in lines else (at, message)


def _keys_of(loc: Location, value: object, *, keep_last: bool) -> Location:
    """The part of an error's path that are keys of the file; pydantic names the branches of unions in it too."""
    at: Location = ()
    for position, part in enumerate(loc):
        if isinstance(value, Mapping) and part in value:  # noqa: SIM114 (mypy narrows one at a time)
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        elif not (keep_last and position == len(loc) - 1):
            continue
        at = (*at, part)
    return at


def _dots(at: Location) -> str:
    return ".".join(str(part) for part in at)


def _unknown_field(at: Location, model: type[BaseModel]) -> str:
    known = _fields_at(at[:-1], model)
    close = difflib.get_close_matches(str(at[-1]), known, n=1)
    if close:
        return f"unknown field; did you mean {close[0]!r}?"
    return f"unknown field; known here are {', '.join(known)}" if known else "unknown field"


def _fields_at(at: Location, model: type[BaseModel]) -> list[str]:
    """The field names of the section at a path of the file."""
    for part in at:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
