"""Ratings by category, for tasks that a judge rates: a model may write well and reason badly."""

from fedloom.evaluation.report.markup import cell, row, table, text
from fedloom.evaluation.results import ModelResult, TaskResult
from fedloom.evaluation.statistics.group_means import GroupMean
from fedloom.evaluation.words import amount_in_words


def by_category(task: TaskResult) -> str:
    """A table of the first metric by category and model; empty for other tasks, and where there is one category."""
    models = [model for model in task.models if model.numbers[0].groups is not None]
    if task.judge is None or not models:
        return ""
    names = dict.fromkeys(name for model in models for name in _groups(model))
    metric = models[0].numbers[0].metric
    columns = [
        (f"{metric.title} by category{', %' if metric.is_share else ''}", ""),
        *((model.model, "n") for model in models),
    ]
    rows = (row([cell(text(name)), *(cell(text(_value(model, name)), "n") for model in models)]) for name in names)
    return table(columns, rows)


def _value(model: ModelResult, name: str) -> str:
    """The mean of a category, and how many items it is of."""
    found = _groups(model).get(name)
    if found is None:
        return ""
    return f"{amount_in_words(found.value, found.confidence, model.numbers[0].metric)} (n={found.n:,})"


def _groups(model: ModelResult) -> dict[str, GroupMean]:
    groups = model.numbers[0].groups
    return dict(groups.groups) if groups is not None else {}
