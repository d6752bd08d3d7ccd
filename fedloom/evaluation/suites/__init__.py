"""Suites: short YAML files that name tasks, and means over them. Those of the package, and files of one's own."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fedloom.errors import EvaluationError
from fedloom.evaluation.nearest import did_you_mean
from shared.bounds import Line
from shared.campaign.file import read_file
from shared.campaign.sections import Section


class AverageSection(Section):
    """A mean over tasks, given only if all of them ran."""

    title: Line
    metrics: Annotated[list[Line], Field(min_length=1)]
    """Names of metrics, each of which gives a mean of its own."""
    tasks: Annotated[list[Line], Field(min_length=2)]


class Suite(Section):
    """Tasks that belong together."""

    title: Line
    tasks: Annotated[list[Line], Field(min_length=1)]
    """Names of tasks; one of one's own is `FILE.py:CLASS`, relative to the suite's file."""
    averages: list[AverageSection] = Field(default_factory=list)


def built_in() -> list[str]:
    """The names of the suites of the package."""
    return sorted(each.name.removesuffix(".yaml") for each in files(__name__).iterdir() if each.name.endswith(".yaml"))


def read_suite(name: str) -> tuple[Suite, Path]:
    """A suite of the package by its name, or one of a file; and the folder that its own tasks are relative to.

    Raises EvaluationError for an unknown name, CampaignFileError for a file with errors, and OSError.
    """
    if name in built_in():
        path = Path(str(files(__name__).joinpath(f"{name}.yaml")))
        return read_file(path, Suite), path.parent
    path = Path(name)
    if path.suffix not in (".yaml", ".yml", ".json") and not path.exists():
        hint = did_you_mean(name, built_in())
        known = f": choose from {', '.join(built_in())}, or name a YAML file"
        raise EvaluationError(f"there is no suite {name}{hint or known}")
    if path.exists() and not path.is_file():
        raise EvaluationError(f"{path} is no file")
    return read_file(path, Suite), path.parent
