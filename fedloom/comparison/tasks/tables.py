"""Numbers of evaluation tasks for a terminal and for scripts: a table for each task, with a line for each method."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from fedloom.comparison.results import Results, Row
from fedloom.comparison.tasks.scores import TaskScore

MEANS = "means over tasks"


def cell(results: Results, row: Row, metric: str) -> str:
    """A value as mean ± standard deviation over the seeds, or why there is none."""
    mean, spread = row.mean(metric), row.spread(metric)
    if mean is None:
        return "not run" if row.scores or row.tasks else "failed"
    shown = results.formatted(mean, metric)
    return f"{shown} ± {results.formatted(spread, metric)}" if spread is not None else shown


def task_tables(results: Results) -> Iterator[Table]:
    """A table for each task that gave numbers, and one of the means over tasks."""
    for task in dict.fromkeys(scores[0].task for scores in results.task_metrics.values()):
        keys = {
            key: scores[0].metric
            for key, scores in results.task_metrics.items()
            if scores[0].task == task and any(score.value is not None for score in scores)
        }
        if keys:
            yield _table(results, task, keys)


def not_run(results: Results) -> dict[str, str]:
    """Why a task or a mean over tasks gave no number: by its name, and by trial where others have one."""
    found: dict[str, str] = {}
    for scores in results.task_metrics.values():
        if all(score.value is None for score in scores):
            found.setdefault(scores[0].task or scores[0].metric, scores[0].not_run)
    for result in results.methods:
        for seed, scores in result.tasks.items():
            for score in scores:
                if score.value is None and score.task and score.task not in found:
                    found.setdefault(f"{score.task}, {result.method.name}, seed {seed}", score.not_run)
    return found


def numbers_as_json(results: Results, row: Row) -> list[dict[str, Any]]:
    """Each metric of each task: values by seed with mean and spread, and how many items of how many they are of."""
    return [
        {
            "task": scores[0].task or None,
            "metric": scores[0].metric,
            "values": row.scores.get(key, []),
            "mean": row.mean(key),
            "spread": row.spread(key),
            "n": [score.n for score in row.tasks if score.key == key],
            "n_asked": scores[0].n_asked,
            "n_published": scores[0].n_published,
            "not_run": next((score.not_run for score in row.tasks if score.key == key and score.not_run), None),
        }
        for key, scores in results.task_metrics.items()
    ]


def _table(results: Results, task: str, keys: dict[str, str]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    shown.add_column(task or MEANS)
    if task:
        shown.add_column("ITEMS", justify="right", no_wrap=True)
    for metric in keys.values():
        shown.add_column(metric.upper().replace("_", "-"), justify="right")
    for row in results.rows():
        items = [_items([score for score in row.tasks if score.key in keys])] if task else []
        shown.add_row(row.name, *items, *(cell(results, row, key) for key in keys))
    return shown


def _items(scores: Sequence[TaskScore]) -> str:
    """How many items numbers are of: ``200 of 970``, or the fewest and the most."""
    if not scores:
        return ""
    few, many = min(score.n for score in scores), max(score.n for score in scores)
    n = f"{many:,}" if few == many else f"{few:,}–{many:,}"
    n_published = scores[0].n_published
    return f"{n} of {n_published:,}" if n_published else n
