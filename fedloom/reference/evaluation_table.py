"""The tables of all metrics and their data in docs/evaluating.md, from the tasks themselves.

python -m fedloom.reference.evaluation_table
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fedloom.evaluation.data.file_groups import FileGroup, groups_of
from fedloom.evaluation.tasks.base import Task
from fedloom.evaluation.tasks.registry import TASKS

METRICS = ("tasks", "metric", "how it is computed", "shots", "whose prompts and rules")
DATA = ("tasks", "items", "data", "licence", "SHA-256", "where to get it")
_SHORT = 12


def lines() -> Iterator[str]:
    """The lines below the heading "All metrics"."""
    tasks = [TASKS[name]() for name in TASKS]
    yield "A task with (NC) has data for research use only."
    yield ""
    yield from _table(METRICS, _metrics(tasks))
    yield ""
    yield "## All data"
    yield ""
    yield from _table(DATA, _data(tasks))


def _metrics(tasks: Sequence[Task]) -> Iterator[list[str]]:
    """A row for each metric of tasks that differ in data, prompt or template alone."""
    families: dict[tuple[Any, ...], list[Task]] = {}
    for task in tasks:
        metrics = tuple((metric.name, metric.rule) for metric in task.metrics)
        families.setdefault((metrics, task.shots), []).append(task)
    for alike in families.values():
        names = ", ".join(f"`{task.name}`{' (NC)' if _is_nc(task) else ''}" for task in alike)
        origins = "; ".join(dict.fromkeys(part for task in alike for part in task.origin.split("; ")))
        for place, metric in enumerate(alike[0].metrics):
            first, shots, last = (names, str(alike[0].shots), origins) if place == 0 else ("", "", "")
            yield [first, f"`{metric.name}`", metric.rule, shots, last]


def _data(tasks: Sequence[Task]) -> Iterator[list[str]]:
    """A row for each file, or group of files, of tasks with the same items."""
    readers: dict[tuple[Any, ...], list[Task]] = {}
    for task in tasks:
        readers.setdefault((tuple(task.files), task.n_published), []).append(task)
    for alike in readers.values():
        names = ", ".join(f"`{task.name}`" for task in alike)
        n_items = f"{alike[0].n_published:,}" if alike[0].n_published is not None else "your own"
        for place, group in enumerate(groups_of(alike[0].files)):
            first = [names, n_items] if place == 0 else ["", ""]
            yield [*first, _named(group), group.licence, _digest(group), group.files[0].where]


def _is_nc(task: Task) -> bool:
    return any(group.is_nc for group in groups_of(task.files))


def _named(group: FileGroup) -> str:
    n = len(group.files)
    return f"{'or ' if group.files[0].instead_of else ''}`{group.name}`{f' ({n} files)' if n > 1 else ''}"


def _digest(group: FileGroup) -> str:
    """Of the published file, or how many of several are known."""
    n_known = sum(bool(file.sha256) for file in group.files)
    if len(group.files) > 1:
        return f"{n_known or 'none'} known"
    if group.files[0].licence == "your own":
        return ""
    return f"`{group.files[0].sha256[0][:_SHORT]}…`" if n_known else "not known"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(columns)
    yield _row(["---"] * len(columns))
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    print(*lines(), sep="\n")  # noqa: T201
