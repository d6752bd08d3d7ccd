"""``fedloom adapter list`` and ``pull``: the global adapters of a campaign."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fedloom.cli import output
from fedloom.cli.adapter import merge
from fedloom.cli.connection import connect
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from fedloom.client import WhichAdapter
    from shared.metrics import Metric
    from shared.wire.campaigns import CampaignDetail

WIDE, LONG_TITLE = 105, 16
"""Columns of a terminal from which on a second metric has room; characters from which on a title is broken."""

app = typer.Typer(help="List, download and merge the adapters of campaigns.", no_args_is_help=True)

IdOrName = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="Campaign id or name; a name means its newest campaign.")
]


@app.command("list")
def list_(
    ctx: typer.Context,
    campaign: IdOrName,
    stored: Annotated[bool, typer.Option("--stored", help="Only adapters whose bytes are still stored.")] = False,
    as_json: AsJson = False,
) -> None:
    """List a campaign's global adapters: the initial one, and one for each round."""
    with connect(ctx) as client:
        detail = client.campaign(campaign)
        adapters = list(client.adapters(detail.id, stored=stored or None))
    if as_json:
        output.print_json(adapters)
        return
    if not adapters:
        output.say(f"{detail.name} has no adapters yet; it is {detail.state}")
        return
    from fedloom.measured import best_in_words, label, units

    console = output.console()
    metrics = _shown_metrics(detail, console.width)
    titles = [label(each).upper() for each in metrics]
    table = output.table(
        "NUMBER", *titles, "CLIENTS", "SIZE", "CREATED", "SHA-256", "",
        right=["NUMBER", *titles, "CLIENTS", "SIZE"], fold=[title for title in titles if len(title) > LONG_TITLE],
    )  # fmt: skip
    for adapter in adapters:
        marks = [
            *(["final"] if adapter.number == detail.final_adapter else []),
            *(["best"] if adapter.number == detail.best_adapter else []),
            *([] if adapter.stored else ["not stored"]),
        ]
        table.add_row(
            str(adapter.number),
            *(_value(each, adapter.metrics.get(each.name)) for each in metrics),
            str(len(adapter.contributions)),
            output.size(adapter.blob.n_bytes),
            output.ago(adapter.created_at),
            adapter.blob.sha256[:12],
            ", ".join(marks),
        )
    console.print(table)
    best = f"best: {best_in_words(detail)}" if detail.best_adapter is not None else ""
    shown = [each for each in metrics if any(each.name in adapter.metrics for adapter in adapters)]
    console.print("; ".join(filter(None, (best, units(shown)))), style="dim", markup=False)


def _shown_metrics(campaign: "CampaignDetail", width: int) -> "list[Metric]":
    """The held-out loss, and the metric by which the best adapter is chosen; only that one on a narrow terminal."""
    from shared.metrics import HELD_OUT_LOSS

    best = campaign.spec.evaluation.best
    names = (HELD_OUT_LOSS, best) if width >= WIDE else (best,)
    found = [each for each in campaign.metrics if each.name in names]
    return found or [each for each in campaign.metrics if each.name == HELD_OUT_LOSS]


def _value(metric: "Metric", value: float | None) -> str:
    if value is None:
        return ""
    return metric.text(value) if metric.is_share else output.loss(value)


_LONGEST_NUMBER = 9


def _which(text: str) -> str:
    if text in ("final", "best", "latest") or (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        return text
    message = "must be a number, 'final', 'best' or 'latest'"
    raise typer.BadParameter(message)


@app.command()
def pull(
    ctx: typer.Context,
    campaign: IdOrName,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    which: Annotated[
        str,
        typer.Option(
            "--adapter",
            metavar="ADAPTER",
            callback=_which,
            help="Its number, or 'final', 'best' (by the campaign's evaluation.best), 'latest'.",
        ),
    ] = "final",
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing folder of an adapter or a model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download an adapter as a folder that PEFT and vLLM load, with a model card.

    Example: fedloom adapter pull clinic-notes --out clinic-adapter --adapter best
    """
    number_or_name = cast("WhichAdapter", int(which) if which.isdecimal() else which)
    with connect(ctx) as client:
        detail = client.campaign(campaign)
        adapter = client.pull_adapter(detail.id, number_or_name, out, force=force)
    if as_json:
        output.print_json({"folder": str(out.absolute()), "adapter": adapter.model_dump(mode="json")})
        return
    from fedloom.measured import best_in_words, few_benchmark_metrics, held_out_metrics, measured

    shown = {each.name for each in (*held_out_metrics(detail), *few_benchmark_metrics(detail))}
    values = [each for each in measured(detail, adapter.metrics) if each.metric.name in shown]
    best = [f"the best: {best_in_words(detail)}"] if adapter.number == detail.best_adapter else []
    facts = ", ".join([output.size(adapter.blob.n_bytes), *best, *map(str, values)])
    output.say(f"wrote adapter {adapter.number} of {detail.name} to {out} ({facts})")


app.command()(merge.merge)
