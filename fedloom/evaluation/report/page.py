"""``report.html``: one page with all numbers and their plots. It needs nothing from outside."""

from collections.abc import Sequence
from pathlib import Path

from fedloom.evaluation.asking.models import ModelFacts
from fedloom.evaluation.report.markup import cell, digest, row, table, text
from fedloom.evaluation.report.style import STYLE
from fedloom.evaluation.report.task_section import task_section
from fedloom.evaluation.results import ModelResult, Results, TaskResult
from fedloom.evaluation.statistics.averages import AverageValue
from fedloom.evaluation.words import average_in_words, change_in_words, value_in_words
from shared.system.durable import atomic_text

_RULES = (
    "Shares are in per cent. Intervals are at 95 %; ± is half of their width. Differences are over the items that "
    "count for both models; a star marks one whose interval excludes zero, and p is McNemar's. Intervals tell how much "
    "chance is in the choice of items, not how much is in training."
)


def write_page(results: Results, path: Path) -> None:
    """Write the page, atomically. Raises OSError."""
    atomic_text(path, page(results))


def page(results: Results) -> str:
    """The whole page. Every text is escaped."""
    title = f"Evaluation: {text(results.title or results.suite) or 'tasks by name'}"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>",
        "" if results.is_complete else '<p class="bad">The run is not complete: the same command goes on.</p>',
        _setup(results),
        _overview(results),
        _averages(results.averages),
        f'<p class="note small">{_RULES}</p>',
        *(task_section(task, results.seed) for task in results.tasks if not task.not_run),
        *(task_section(task, results.seed) for task in results.tasks if task.not_run),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _setup(results: Results) -> str:
    limit = f"At most {results.limit:,} items a task" if results.limit else "All items"
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    run = f"{limit}, seed {results.seed}; {results.made_at:%Y-%m-%d %H:%M} UTC; {versions}."
    columns = [(title, "") for title in ("model", "base", "base's weights", "quantisation", "adapter")]
    return f'<p class="note small">{text(run)}</p>{table(columns, map(_model, results.models))}'


def _model(facts: ModelFacts) -> str:
    digests = digest(facts.fingerprint.get("weights", "")), digest(facts.adapter_sha256 or "")
    return row(
        map(cell, (text(facts.name), text(facts.base), digests[0], text(facts.quantization or "none"), digests[1]))
    )


def _overview(results: Results) -> str:
    """The first metric of each task."""
    names = [model.name for model in results.models]
    columns = [("task", ""), ("metric", ""), ("items", "n"), *((name, "n") for name in names)]
    return table(columns, (_overview_row(task, len(names)) for task in results.tasks))


def _overview_row(task: TaskResult, n_models: int) -> str:
    link = cell(f'<a href="#{text(task.name)}">{text(task.name)}</a>')
    if task.not_run:
        return row([link, f'<td class="bad" colspan="{n_models + 2}">not run</td>'])
    metric = task.models[0].numbers[0].metric
    named = cell(text(f"{metric.title}{', %' if metric.is_share else ''}"))
    n = max(model.numbers[0].n for model in task.models)
    return row([link, named, cell(f"{n:,}", "n"), *(cell(_value(model), "n") for model in task.models)])


def _value(model: ModelResult) -> str:
    value = value_in_words(model.numbers[0])
    return text(f"{value} ({change_in_words(model.differences[0])})" if model.differences else value)


def _averages(averages: dict[str, Sequence[AverageValue]]) -> str:
    if not any(averages.values()):
        return ""
    columns = [("mean over tasks", ""), *((name, "n") for name in averages)]
    rows = []
    for values in zip(*averages.values(), strict=True):
        average = values[0].average
        title = cell(text(f"{average.title}{', %' if average.metric.is_share else ''}"))
        if all(each.value is None for each in values) and len({each.not_run for each in values}) == 1:
            rows.append(
                row([title, f'<td class="bad" colspan="{len(values)}">{text(average_in_words(values[0]))}</td>'])
            )
            continue
        cells = (cell(_average(each), "n" if each.value is not None else "long") for each in values)
        rows.append(row([title, *cells]))
    return table(columns, rows)


def _average(found: AverageValue) -> str:
    said = text(average_in_words(found))
    return said if found.value is not None else f'<span class="bad">{said}</span>'
