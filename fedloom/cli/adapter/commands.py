"""``fedloom adapter list`` and ``pull``: the global adapters of a campaign."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from fedloom.client import WhichAdapter

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
    table = output.table(
        "NUMBER", "HELD-OUT LOSS", "CLIENTS", "SIZE", "CREATED", "SHA-256", "",
        right=["NUMBER", "HELD-OUT LOSS", "CLIENTS", "SIZE"],
    )  # fmt: skip
    for adapter in adapters:
        marks = [
            *(["final"] if adapter.number == detail.final_adapter else []),
            *(["best"] if adapter.number == detail.best_adapter else []),
            *([] if adapter.stored else ["not stored"]),
        ]
        table.add_row(
            str(adapter.number),
            output.loss(adapter.held_out_loss),
            str(len(adapter.contributions)),
            output.size(adapter.blob.n_bytes),
            output.ago(adapter.created_at),
            adapter.blob.sha256[:12],
            ", ".join(marks),
        )
    from fedloom.measured import held_out_metrics, units
    from shared.metrics import HELD_OUT_LOSS

    console = output.console()
    console.print(table)
    if any(adapter.metrics for adapter in adapters):
        console.print(
            units([each for each in held_out_metrics(detail) if each.name == HELD_OUT_LOSS]), style="dim", markup=False
        )


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
            callback=_which, help="The adapter's number, or 'final', 'best' (lowest held-out loss), 'latest'."
        ),
    ] = "final",
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing folder of an adapter or a model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download an adapter as a folder that PEFT and vLLM load, with a model card.

    Example: fedloom adapter pull clinic-notes --out clinic-adapter --which best
    """
    number_or_name = cast("WhichAdapter", int(which) if which.isdecimal() else which)
    with connect(ctx) as client:
        detail = client.campaign(campaign)
        adapter = client.pull_adapter(detail.id, number_or_name, out, force=force)
    if as_json:
        output.print_json({"folder": str(out.absolute()), "adapter": adapter.model_dump(mode="json")})
        return
    from fedloom.measured import measured

    facts = ", ".join([output.size(adapter.blob.n_bytes), *map(str, measured(detail, adapter.metrics))])
    output.say(f"wrote adapter {adapter.number} of {detail.name} to {out} ({facts})")
