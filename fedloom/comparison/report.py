"""The results of a comparison for a terminal and for scripts."""

from typing import Any

from rich.table import Table
from rich.text import Text

from fedloom.comparison.results import Results
from fedloom.comparison.tasks.tables import cell, numbers_as_json
from fedloom.comparison.verdict import best, caption, finding, leaders


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
        shown.add_row(name, row.hyperparameters, *cells, style="bold green" if is_best else "")
    return shown


def below_table(results: Results) -> str:
    """What the values and the star mean, as one line; empty if there is nothing to say."""
    spread = f"mean ± standard deviation over seeds {', '.join(map(str, results.seeds))}"
    return "; ".join(part for part in (spread if len(results.seeds) > 1 else "", caption(results)) if part)


def as_json(results: Results) -> dict[str, Any]:
    """The rows and what they show, for scripts. best: null unless exactly one algorithm leads."""
    starred = best(results)
    return {
        "name": results.name,
        "seeds": results.seeds,
        "rows": [
            {
                "name": row.name,
                "kind": row.kind,
                "rates": row.hyperparameters,
                "scores": row.scores,
                "evaluation": numbers_as_json(results, row),
            }
            for row in results.rows()
        ],
        "ranked_by": results.criterion,
        "failures": [failure for result in results.methods for failure in result.failures],
        "best": starred.name if starred is not None else None,
        "leaders": [row.name for row in leaders(results)],
        "finding": finding(results),
        "notes": results.notes,
    }
