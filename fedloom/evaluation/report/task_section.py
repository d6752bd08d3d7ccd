"""One task of the page: what it is of, and each metric of each model in a row."""

from collections.abc import Iterator

from fedloom.evaluation.report.categories import by_category
from fedloom.evaluation.report.markup import cell, digest, row, table, text
from fedloom.evaluation.report.plot import Axis, axis_of, ends_in_words, plot
from fedloom.evaluation.results import ModelResult, TaskResult
from fedloom.evaluation.statistics.numbers import Number
from fedloom.evaluation.tasks.base import is_for_research
from fedloom.evaluation.words import (
    change_in_words,
    in_unit,
    interval_in_words,
    items_in_words,
    pairs_in_words,
    remarks,
    value_in_words,
)

_COLUMNS = (
    *(("model", ""), ("value", "n"), ("95 % interval", "n"), ("", "")),
    *(("difference to base", "n"), ("its 95 % interval", "n"), ("p", "n"), ("items", "n"), ("", "long")),
)


def task_section(task: TaskResult, seed: int) -> str:
    """The section of a task. seed: of the draw."""
    is_nc = any(map(is_for_research, task.licences.values()))
    mark = ' <span class="mark">for research only: NC</span>' if is_nc else ""
    head = f'<h2 id="{text(task.name)}">{text(task.title)} <span class="note">{text(task.name)}</span>{mark}</h2>'
    if task.not_run:
        return f'{head}<p class="bad">Not run: {text(task.not_run)}</p>'
    rows = [line for place in range(len(task.models[0].numbers)) for line in _metric(task, place)]
    return f"{head}{_facts(task, seed)}{_remarks(task)}{table(_COLUMNS, rows)}{by_category(task)}"


def _facts(task: TaskResult, seed: int) -> str:
    shots = f"{task.shots} examples in each prompt" if task.shots else "no examples in the prompt"
    drawn = f"{len(task.items):,} of {task.n_published:,} items, drawn with seed {seed}"
    lines = [f"{drawn}; {shots}; prompts {_prompts(task)}.", f"{_sentence(task.origin)}"]
    files = [f"{text(path)} {digest(sha256)}{_licence(task, path)}" for path, sha256 in task.digests.items()]
    shown = ", ".join(files[:4]) + (f" and {len(files) - 4} more files" if len(files) > 4 else "")
    if task.judge is not None:
        cost = task.judge.cost.in_words()
        lines.append(f"<b>Rated by {text(str(task.judge))}</b>: {cost}. Scores of two judges cannot be compared.")
    lines += [f"Data: {shown}."] if files else []
    lines += [_sentence(note) for note in task.notes]
    lines += [f"<b>{_sentence(task.overlap)}</b>"] if task.overlap else []
    return f'<p class="note small">{" ".join(lines)}</p>'


def _sentence(words: str) -> str:
    return f"{text(words[:1].upper() + words[1:])}."


def _remarks(task: TaskResult) -> str:
    """What happened to items, once for all models that it happened to alike."""
    alike: dict[str, list[str]] = {}
    for model in task.models:
        said = "; ".join(dict.fromkeys(filter(None, map(remarks, model.numbers))))
        alike.setdefault(said, []).append(model.model)
    lines = [f"<li>{text(', '.join(names))}: {text(said)}</li>" for said, names in alike.items() if said]
    return f'<ul class="note small">{"".join(lines)}</ul>' if lines else ""


def _licence(task: TaskResult, path: str) -> str:
    licence = task.licences.get(path, "")
    return f" ({text(licence)})" if licence else ""


def _prompts(task: TaskResult) -> str:
    """The digest of what was asked: one if all models were asked the same."""
    found = {model.model: model.prompts_sha256 for model in task.models}
    if len(set(found.values())) == 1:
        return digest(next(iter(found.values())))
    return ", ".join(f"of {text(name)} {digest(sha256)}" for name, sha256 in found.items())


def _metric(task: TaskResult, place: int) -> Iterator[str]:
    numbers = [model.numbers[place] for model in task.models]
    metric, axis = numbers[0].metric, axis_of(numbers)
    unit = ", %" if metric.is_share else ""
    better = "more is better" if metric.best == 1 else "less is better"
    drawn = f"; plot from {ends_in_words(axis, numbers[0])}" if axis is not None else ""
    chance = f"; by chance {in_unit(metric.chance, metric):.1f}" if metric.chance is not None else ""
    said = f"{metric.rule}; {better}{chance}{drawn}"
    yield row(
        [f'<th colspan="9"><b>{text(metric.title)}{unit}</b> <span class="note">{text(said)}</span></th>'], "metric"
    )
    for model, number in zip(task.models, numbers, strict=True):
        yield _row(model, number, axis, is_base=model is task.models[0])


def _row(model: ModelResult, number: Number, axis: Axis | None, *, is_base: bool) -> str:
    difference = next((each for each in model.differences if each.metric.name == number.metric.name), None)
    notes = [number.not_run, _groups(number)]
    cells = [
        cell(text(model.model)),
        cell(text(value_in_words(number)), "n"),
        cell(text(interval_in_words(number.confidence, number.metric)), "n"),
        cell(plot(number, axis) if axis is not None else ""),
    ]
    if difference is None:
        cells += [cell("", "n")] * 3
    else:
        notes.append(pairs_in_words(difference, number))
        cells += [
            cell(text(change_in_words(difference)), "n"),
            cell(text(interval_in_words(difference.confidence, number.metric, "+")), "n"),
            cell(f"{difference.p:.3f}" if difference.p is not None else "", "n"),
        ]
    cells += [cell(text(items_in_words(number)), "n"), cell(text("; ".join(filter(None, notes))), "long")]
    return row(cells, "base" if is_base else "")


def _groups(number: Number) -> str:
    if number.groups is None:
        return ""
    return f"mean of its {len(number.groups.groups)} groups {in_unit(number.groups.mean, number.metric):.1f}"
