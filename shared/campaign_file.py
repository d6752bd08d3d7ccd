"""Reads a campaign file, YAML or JSON, and says the line and the field of everything that is wrong."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from shared.campaign import CampaignSpec

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class FileProblem:
    """One thing that is wrong: the line (from 1), the field in dots, and what to do."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.message}" if self.field else f"line {self.line}: {self.message}"


class CampaignFileError(ValueError):
    """A campaign file cannot be used. ``problems`` lists everything that is wrong, in the order of lines."""

    def __init__(self, source: str, problems: Sequence[FileProblem]) -> None:
        self.source = source
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(f"{source}, {problem}" for problem in self.problems))


def read_campaign_file(path: Path) -> CampaignSpec:
    """The campaign in a file. Raises OSError and CampaignFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CampaignFileError(str(path), [FileProblem(1, "", f"not UTF-8 text: {error}")]) from error
    return parse_campaign(text, source=str(path))


def parse_campaign(text: str, source: str = "campaign") -> CampaignSpec:
    """The campaign in a text; JSON is read as the YAML that it is. Raises CampaignFileError."""
    lines: dict[Location, int] = {}
    try:
        root = yaml.compose(text.replace("\t", "  "), Loader=yaml.SafeLoader)
        if root is None:
            raise CampaignFileError(source, [FileProblem(1, "", "the file is empty")])
        _index(root, (), lines, source)
        value = yaml.safe_load(text.replace("\t", "  "))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CampaignFileError(source, [FileProblem(line, "", error.problem or "not YAML")]) from error
    except yaml.YAMLError as error:
        raise CampaignFileError(source, [FileProblem(1, "", f"not YAML: {error}")]) from error
    try:
        return CampaignSpec.model_validate(value)
    except ValidationError as error:
        raise CampaignFileError(source, _problems(error, value, lines)) from error


def _index(node: yaml.Node, at: Location, lines: dict[Location, int], source: str) -> None:
    """Write down the line of every value; refuse keys that are given twice, which YAML would let pass."""
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            here = (*at, key.value)
            line = key.start_mark.line + 1
            if here in lines:
                raise CampaignFileError(
                    source, [FileProblem(line, _dots(here), f"given twice, first on line {lines[here]}")]
                )
            lines[here] = line
            _index(child, here, lines, source)
    elif isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            _index(child, (*at, position), lines, source)


def _problems(error: ValidationError, value: object, lines: dict[Location, int]) -> list[FileProblem]:
    problems: dict[tuple[str, str], FileProblem] = {}
    for detail in error.errors(include_url=False):
        at = _keys_of(detail["loc"], value, keep_last=detail["type"] == "missing")
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = _unknown_field(at)
        elif detail["type"] == "missing":
            message = "this field is needed"
        elif detail["type"] == "string_pattern_mismatch":
            message = "only letters, digits, '.', '_' and '-', at most 63 of them, the first a letter or a digit"
        line_at = at
        while line_at and line_at not in lines:
            line_at = line_at[:-1]
        problem = FileProblem(lines.get(line_at, 1), _dots(at), message)
        problems.setdefault((problem.field, problem.message), problem)
    return list(problems.values())


def _keys_of(loc: Location, value: object, *, keep_last: bool) -> Location:
    """The part of an error's path that are keys of the file; pydantic names the branches of unions in it too."""
    at: Location = ()
    for position, part in enumerate(loc):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        elif not (keep_last and position == len(loc) - 1):
            continue
        at = (*at, part)
    return at


def _dots(at: Location) -> str:
    return ".".join(str(part) for part in at)


def _unknown_field(at: Location) -> str:
    known = _fields_at(at[:-1])
    close = difflib.get_close_matches(str(at[-1]), known, n=1)
    if close:
        return f"unknown field; did you mean {close[0]!r}?"
    return f"unknown field; known here are {', '.join(known)}" if known else "unknown field"


def _fields_at(at: Location) -> list[str]:
    """The field names of the section at a path of the campaign file."""
    model: type[BaseModel] = CampaignSpec
    for part in at:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
