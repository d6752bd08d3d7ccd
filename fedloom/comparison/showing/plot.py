"""The figure of a comparison: a point for each seed, and a bar at the mean."""

from pathlib import Path

import matplotlib as mpl

from fedloom.comparison.planning.methods import MethodKind
from fedloom.comparison.results import Results

mpl.use("Agg")  # writes files, needs no display
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

_COLOURS = {
    MethodKind.BASE: "#777777",
    MethodKind.ALGORITHM: "#1f6f8b",
    MethodKind.ALONE: "#d1873c",
    MethodKind.ALONE_MEAN: "#d1873c",
    MethodKind.POOLED: "#5b8c3a",
}


def plot(results: Results, path: Path) -> None:
    """Write a PNG of the criterion. Raises OSError."""
    rows = [row for row in results.rows() if row.scores.get(results.criterion)]
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(rows) + 1.2), layout="constrained")
    for place, row in enumerate(rows):
        values, colour = row.scores[results.criterion], _COLOURS[row.kind]
        mean = row.mean(results.criterion)
        assert mean is not None
        axes.plot([min(values), max(values)], [place, place], color=colour, linewidth=2, alpha=0.4)
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.7)
        axes.plot([mean], [place], "|", color=colour, markersize=16, markeredgewidth=3)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top, and no mark cut by an edge
    seeds = ", ".join(map(str, results.seeds))
    axes.set_title(f"{results.name}: {results.criterion} on {results.ranked_by.measured_on}, seeds {seeds}")
    if results.is_share(results.criterion):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=130)
    plt.close(figure)
