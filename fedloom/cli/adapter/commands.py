"""``fedloom adapter``: the global adapters of a campaign."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from fedloom.client import WhichAdapter

app = typer.Typer(help="The adapters that campaigns make.", no_args_is_help=True)

IdOrName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Its id, or its name (the newest of that name).")]


@app.command("list")
def list_(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """List a campaign's adapters, one a round."""
    with connect(ctx) as client:
        found = client.find_campaign(campaign)
        adapters = list(client.adapters(found.id))
    if as_json:
        output.print_json(adapters)
        return
    if not adapters:
        typer.echo(f"{found.name} has no adapters yet; it is {found.state}")
        return
    table = output.table(
        "NUMBER", "HELD-OUT LOSS", "CLIENTS", "SIZE", "MADE", "SHA-256", "",
        right=["NUMBER", "HELD-OUT LOSS", "CLIENTS", "SIZE"],
    )  # fmt: skip
    for one in adapters:
        marks = [
            *(["final"] if one.number == found.final_adapter else []),
            *(["best"] if one.number == found.best_adapter else []),
            *([] if one.stored else ["not kept"]),
        ]
        table.add_row(
            str(one.number),
            output.loss(one.held_out_loss),
            str(len(one.contributions)),
            output.size(one.blob.n_bytes),
            output.ago(one.created_at),
            one.blob.sha256[:12],
            ", ".join(marks),
        )
    output.console().print(table)


def _which(text: str) -> str:
    if text in ("final", "best", "latest") or text.isdecimal():
        return text
    message = "a number, 'final', 'best' or 'latest'"
    raise typer.BadParameter(message)


@app.command()
def pull(
    ctx: typer.Context,
    campaign: IdOrName,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    which: Annotated[
        str, typer.Option(callback=_which, help="Its number, or 'final', 'best' (lowest held-out loss), 'latest'.")
    ] = "final",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an adapter as a folder that PEFT and vLLM load, with a model card."""
    wanted = cast("WhichAdapter", int(which) if which.isdecimal() else which)
    with connect(ctx) as client:
        found = client.find_campaign(campaign)
        adapter = client.pull_adapter(found.id, wanted, out, force=force)
    if as_json:
        output.print_json({"folder": str(out.absolute()), "adapter": adapter.model_dump(mode="json")})
        return
    loss = f", held-out loss {adapter.held_out_loss:.4f}" if adapter.held_out_loss is not None else ""
    typer.echo(f"wrote adapter {adapter.number} of {found.name} to {out} ({output.size(adapter.blob.n_bytes)}{loss})")
