"""The kind's own metrics by round: of trainings and of evaluations, beside the losses."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from fedloom.cli import output
from fedloom.measured import Means, held_out_metrics, training_metrics, units
from shared.metrics import HELD_OUT_LOSS, TRAIN_LOSS_MEAN, Metric
from shared.wire.campaigns import CampaignDetail

_ROUND_WIDTH = len("ROUND") + 2


def own_metrics(campaign: CampaignDetail, means: Means) -> list[Metric]:
    """The averaged metrics that have values, without the two losses."""
    metrics = [*held_out_metrics(campaign), *training_metrics(campaign)]
    return [each for each in metrics if each.name not in (HELD_OUT_LOSS, TRAIN_LOSS_MEAN) and means.get(each.name)]


def print_metrics(console: Console, campaign: CampaignDetail, means: Means, n_rounds: int | None) -> None:
    """Print the kind's own metrics, if it has any. n_rounds: most rounds to show; None for all."""
    metrics = own_metrics(campaign, means)
    if not metrics:
        return
    for table in _tables(metrics, means, n_rounds, console.width):
        console.print()
        console.print(table)
    console.print(units(metrics), style="dim")


def _tables(metrics: list[Metric], means: Means, n_rounds: int | None, width: int) -> Iterator[Table]:
    columns = {
        metric.title.upper(): {number: metric.text(value) for number, value in means[metric.name].items()}
        for metric in metrics
    }
    widths = {title: max(len(title), *map(len, cells.values())) for title, cells in columns.items()}
    for titles in output.blocks(widths, width - _ROUND_WIDTH):
        table = output.table("ROUND", *titles, right=["ROUND", *titles])
        numbers = sorted({number for title in titles for number in columns[title]})
        for number in numbers[-n_rounds:] if n_rounds is not None else numbers:
            table.add_row(str(number), *(columns[title].get(number, "") for title in titles))
        yield table
