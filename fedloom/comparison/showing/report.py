"""The results of a comparison for a terminal and for scripts."""

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import MethodKind
from fedloom.comparison.results import Results, Row
from fedloom.comparison.showing.verdict import best, caption, finding, leaders
from fedloom.comparison.tasks.tables import cell, numbers_as_json


def table(results: Results) -> Table:
    """The table: mean ± standard deviation over the seeds, with a star at the best algorithm if there is one."""
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    shown.add_column("")
    shown.add_column("HYPERPARAMETERS")
    for metric in results.metrics:
        shown.add_column(metric.upper().replace("_", "-"), justify="right", no_wrap=True)
    starred = best(results)
    for row in results.rows():
        is_best = starred is not None and row.name == starred.name
        cells = [cell(results, row, metric) for metric in results.metrics]
        name = Text(f"{row.name} ★" if is_best else row.name)
        shown.add_row(name, str(row.hyperparameters or ""), *cells, style="bold green" if is_best else "")
    return shown


def tried_table(results: Results) -> Table:
    """All choices of hyperparameters that were compared, with what they are compared by, and which was chosen."""
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    shown.add_column("TRIED")
    shown.add_column("HYPERPARAMETERS")
    by = results.chosen_by
    if by is None:
        return shown
    shown.add_column(by.metric.upper().replace("_", "-"), justify="right", no_wrap=True)
    shown.add_column("")
    for result in results.methods:
        for hyperparameters, tried in result.tried.items() if len(result.tried) > 1 else ():
            value = tried.values.get(by.metric)
            told = "failed" if value is None else results.formatted(value, by.metric)
            is_chosen = hyperparameters == result.hyperparameters
            shown.add_row(result.method.name, str(hyperparameters), told, "chosen" if is_chosen else "")
    return shown


def below_table(results: Results) -> str:
    """What the values and the star mean, as one line; empty if there is nothing to say."""
    spread = f"mean ± standard deviation over seeds {', '.join(map(str, results.seeds))}"
    by, n = results.chosen_by, results.n_tried
    tried = f"hyperparameters chosen among {n} by {by.metric} on {by.measured_on} (--tried)" if by is not None else ""
    return "; ".join(part for part in (spread if len(results.seeds) > 1 else "", caption(results), tried) if part)


def as_json(results: Results) -> dict[str, Any]:
    """The rows and what they show, for scripts. best: null unless exactly one algorithm leads."""
    starred = best(results)
    return {
        "name": results.name,
        "seeds": results.seeds,
        "rows": [_row(results, row) for row in results.rows()],
        "tried": [
            {
                "method": result.method.name,
                **_hyperparameters(hyperparameters),
                "scores": tried.values,
                "is_chosen": hyperparameters == result.hyperparameters,
                "failure": tried.failure or None,
            }
            for result in results.methods
            if result.method.kind is not MethodKind.BASE
            for hyperparameters, tried in result.tried.items()
        ],
        "chosen_by": results.chosen_by.metric if results.chosen_by is not None else None,
        "ranked_by": results.criterion,
        "failures": [failure for result in results.methods for failure in result.failures],
        "best": starred.name if starred is not None else None,
        "leaders": [row.name for row in leaders(results)],
        "finding": finding(results),
        "notes": [*results.notes, *results.remarks],
    }


def _row(results: Results, row: Row) -> dict[str, Any]:
    training = {seed: asdict(each) for seed, each in row.training.items()}
    return {
        "name": row.name,
        "kind": row.kind,
        "hyperparameters": _hyperparameters(row.hyperparameters) if row.hyperparameters is not None else None,
        "scores": row.scores,
        "evaluation": numbers_as_json(results, row),
        "training": [{"seed": seed} | each for seed, each in training.items()],
    }


def _hyperparameters(chosen: Hyperparameters) -> dict[str, Any]:
    return {"learning_rate": chosen.learning_rate, "params": dict(chosen.params), "fields": chosen.values}
