"""Plots the quickstart's losses and accuracy by round."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from exam import Marks

mpl.use("Agg")  # writes files, needs no display
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator, PercentFormatter

_COLOURS = ("#d1873c", "#5b8c3a", "#8d5a97", "#1f6f8b", "#777777")


def plot(
    path: Path, losses: Mapping[str, Mapping[int, float]], marks: Mapping[str, Mapping[int, Marks]], bold: str
) -> None:
    """Write a PNG. losses, marks: campaign title to adapter number to value; bold: title of the highlighted one."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for colour, title in zip(_COLOURS, losses, strict=True):
        style = {"color": colour, "label": title, "linewidth": 3 if title == bold else 1.3, "marker": "o"}
        accuracy = [mark["all"] for mark in marks[title].values()]
        left.plot(list(losses[title]), list(losses[title].values()), markersize=3, **style)
        right.plot(list(marks[title]), accuracy, markersize=3, **style)
    base = marks[bold][0]["all"]
    right.axhline(base, color="black", linestyle=":", linewidth=1, label="base model")
    left.set(title="held-out loss, on the campaign's own data", xlabel="round", ylabel="nats a token", ylim=(0, None))
    right.set(title="exact answers to the common questions", xlabel="round", ylim=(0, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend(loc="upper left", frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
