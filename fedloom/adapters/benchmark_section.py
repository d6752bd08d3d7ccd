"""What benchmarks gave of an adapter, for its model card: as a table, and as the hub's ``model-index``."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from fedloom.measured import Measured
from shared.benchmarks import benchmarks
from shared.campaign.evaluation import EvaluationSection
from shared.metrics import Origin
from shared.text.plain_text import visible_line
from shared.wire.benchmarks import BenchmarkView

_DIGITS = 12


def as_code(text: str) -> str:
    """Another party's text as code in a table's cell: it must not become markup."""
    return f"`{visible_line(text).replace('`', ' ').replace('|', ' ')}`"


def split(metrics: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """Metrics of held-out rows, and those of benchmarks."""
    of_benchmarks = [each for each in metrics if each.metric.origin is Origin.BENCHMARK]
    return [each for each in metrics if each not in of_benchmarks], of_benchmarks


def benchmark_section(
    metrics: Sequence[Measured],
    views: Sequence[BenchmarkView],
    evaluation: EvaluationSection,
    *,
    of: str = "this adapter",
    chosen_by: str | None = None,
) -> list[str]:
    """The lines of the section; none if no benchmark was asked.

    Args:
        metrics: of the adapter; only those of benchmarks are read.
        views: where each benchmark ran, and on how much.
        evaluation: the campaign's section.
        of: what the numbers are of.
        chosen_by: the metric by which it was chosen as the campaign's best; None if it was not.
    """
    values = split(metrics)[1]
    if not values and not views:
        return []
    limit = f" At most {evaluation.limit} items of each, drawn with seed {evaluation.seed}." if evaluation.limit else ""
    lines = [
        "## Benchmarks",
        "",
        f"Numbers of {of} on public benchmarks. Each was reported by one agent of the consortium, and nobody else "
        f"checked it.{limit} Compare only numbers with the same digest: it stands for the items, their data and the "
        f"rules by which they are asked and scored. Written by Fedloom {version('fedloom')}.",
        "",
    ]
    if values:
        lines += [
            "| metric | value | items | reported by | digest of the items |",
            "| --- | ---: | ---: | --- | --- |",
            *(_row(each, views) for each in values),
            "",
        ]
    if chosen_by is not None and any(each.metric.name == chosen_by for each in values):
        lines += [
            f"It was chosen as the best of its campaign by `{chosen_by}`, so this number is likely better than "
            "on other items.",
            "",
        ]
    lines += [f"{view.name} gave no number: {as_code(view.not_run)}." for view in views if view.not_run]
    return lines if lines[-1] == "" else [*lines, ""]


def model_index(name: str, metrics: Sequence[Measured], views: Sequence[BenchmarkView]) -> list[dict[str, Any]]:
    """The ``model-index`` of a card, as ``huggingface_hub.EvalResult`` has it: one result for each benchmark.

    Means over benchmarks are left out: they are of no data set.
    """
    results = [result for view in views if (result := _result(view, split(metrics)[1]))]
    return [{"name": name, "results": results}] if results else []


def _result(view: BenchmarkView, values: Sequence[Measured]) -> dict[str, Any]:
    of_it = [each for each in values if each.metric.name.partition(".")[0] == view.name]
    known = benchmarks().get(view.name)
    facts = {"items": view.n, "asked": view.n_asked, "published": view.n_published, "items_sha256": view.items_sha256}
    return (
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": view.name, "name": known.title if known is not None else view.name, "args": facts},
            "metrics": [
                {"type": each.metric.name.partition(".")[2], "value": each.value, "name": each.metric.name}
                for each in of_it
            ],
        }
        if of_it
        else {}
    )


def _row(each: Measured, views: Sequence[BenchmarkView]) -> str:
    view = next((view for view in views if view.name == each.metric.name.partition(".")[0]), None)
    if view is None:
        cells: tuple[str, ...] = ("mean of benchmarks", "", "")
    else:
        digest = f"`{view.items_sha256[:_DIGITS]}`" if view.items_sha256 is not None else ""
        cells = (", ".join(_items(view)), as_code(view.agent_name or ""), digest)
    return f"| {' | '.join((f'`{each.metric.name}`', each.metric.with_unit(each.value), *cells))} |"


def _items(view: BenchmarkView) -> Iterator[str]:
    yield f"{view.n} of {view.n_published}"
    if view.n != view.n_asked:
        yield f"{view.n_asked} asked"
