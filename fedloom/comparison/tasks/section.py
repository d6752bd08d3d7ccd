"""The section of a comparison file on evaluation tasks, which score each row of the table."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from fedloom.evaluation.suites import built_in
from shared.bounds import Line
from shared.campaign.sections import Section


class TasksSection(Section):
    """The tasks of a suite, or tasks by name, as in `fedloom evaluate`."""

    suite: Line | None = None
    """Name of a suite, or its YAML file."""
    tasks: Annotated[list[Line], Field(min_length=1)] | None = None
    """Names of tasks, in place of a suite; one of one's own is `FILE.py:CLASS`."""
    data: Path = Path("evaluation-data")
    """The folder of evaluation data."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Most items a task, spread over its subjects; by default all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the draw of items. Every row of the table and every seed of training gets the same ones."""

    @model_validator(mode="after")
    def _has_tasks(self) -> Self:
        if (self.suite is None) == (self.tasks is None):
            message = "give a suite or tasks, and not both"
            raise ValueError(message)
        return self

    def relative_to(self, folder: Path) -> Self:
        """The section with paths below *folder*, unless they are absolute."""
        suite, tasks = self.suite, self.tasks
        if suite is not None and suite not in built_in() and (_is_file_name(suite) or (folder / suite).exists()):
            suite = str(folder / suite)
        if tasks is not None:
            tasks = [str(folder / name) if ".py:" in name else name for name in tasks]
        return self.model_copy(update={"suite": suite, "tasks": tasks, "data": folder / self.data})


def _is_file_name(suite: str) -> bool:
    return Path(suite).suffix in (".yaml", ".yml", ".json")
