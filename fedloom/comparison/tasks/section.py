"""The section of a comparison file on evaluation tasks, which score each row of the table."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from fedloom.evaluation.suites import built_in
from shared.bounds import Line
from shared.campaign.sections import Section
from shared.text.words import repeated


def _all_differ(names: list[str]) -> list[str]:
    if twice := repeated(names):
        message = f"{twice} is given twice"
        raise ValueError(message)
    return names


Names = Annotated[list[Line], Field(min_length=1), AfterValidator(_all_differ)]


class JudgeSection(Section):
    """The judge of answers to open-ended questions; the key is that of `FEDLOOM_JUDGE_KEY`."""

    url: Line
    """An OpenAI-compatible server, such as `https://api.openai.com/v1`."""
    model: Line
    """Its name there."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """What it may cost for the whole table, in and out; by default 1,000,000."""


class TasksSection(Section):
    """The tasks of suites, and tasks by name, as in `fedloom evaluate`. A task that is in several runs once."""

    suite: Line | Names | None = None
    """Name of a suite, or its YAML file; or a list of them. Each keeps its own means over tasks."""
    tasks: Names | None = None
    """Names of tasks, besides those of suites; one of one's own is `FILE.py:CLASS`."""
    data: Path = Path("evaluation-data")
    """The folder of evaluation data."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Most items a task, spread over its subjects; by default all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the draw of items. Every row of the table and every seed of training gets the same ones."""

    judge: JudgeSection | None = None
    """Needed by tasks whose answers a judge rates."""

    @model_validator(mode="after")
    def _has_tasks(self) -> Self:
        if self.suite is None and self.tasks is None:
            message = "give a suite, or tasks"
            raise ValueError(message)
        return self

    @property
    def suites(self) -> list[str]:
        """The names of all suites."""
        return [self.suite] if isinstance(self.suite, str) else list(self.suite or ())

    def relative_to(self, folder: Path) -> Self:
        """The section with paths below *folder*, unless they are absolute."""
        suites = [_suite_in(folder, name) for name in self.suites]
        tasks = self.tasks and [str(folder / name) if ".py:" in name else name for name in self.tasks]
        return self.model_copy(update={"suite": suites or None, "tasks": tasks, "data": folder / self.data})


def _suite_in(folder: Path, name: str) -> str:
    """The name of a suite of the package, or the path of its file."""
    if name not in built_in() and (_is_file_name(name) or (folder / name).exists()):
        return str(folder / name)
    return name


def _is_file_name(suite: str) -> bool:
    return Path(suite).suffix in (".yaml", ".yml", ".json")
