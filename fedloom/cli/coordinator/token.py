"""``fedloom token``: one-time tokens with which agents enrol."""

from typing import Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

app = typer.Typer(help="One-time tokens with which agents enrol.", no_args_is_help=True)

DAY_S = 86400.0


@app.command()
def create(
    ctx: typer.Context,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label for the agent; may be given again.")
    ] = None,
    days: Annotated[float, typer.Option(min=0.001, max=366, help="Days until it expires.")] = 7.0,
    note: Annotated[str, typer.Option(help="For whom it is.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token for one agent. Its secret is shown this once."""
    from pydantic import ValidationError

    with connect(ctx) as client:
        try:
            token = client.create_token(_labels(label or []), expires_in_s=days * DAY_S, note=note)
        except ValidationError as error:
            for detail in error.errors():
                field = " ".join(str(part) for part in detail["loc"])
                typer.echo(f"fedloom: {field}: {detail['msg']}", err=True)
            raise typer.Exit(ExitCode.USAGE) from error
        url = client.url
    if as_json:
        output.print_json(token)
        return
    typer.echo(token.token)
    typer.echo(
        f"\nIt can be used once, until {token.expires_at.astimezone():%Y-%m-%d %H:%M}. At the data owner, run:\n"
        f"  fedloom agent enroll --coordinator {url} --token {token.token}",
        err=True,  # so that TOKEN=$(fedloom token create) holds the token alone
    )


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            message = f"{one!r} is not of the form NAME=VALUE"
            raise typer.BadParameter(message, param_hint="--label")
        labels[name] = value
    return labels


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List tokens, newest first, without their secrets."""
    with connect(ctx) as client:
        tokens = list(client.tokens())
    if as_json:
        output.print_json(tokens)
        return
    if not tokens:
        typer.echo("no tokens; make one with: fedloom token create")
        return
    table = output.table("ID", "CREATED", "USED BY", "LABELS", "NOTE", fold=["LABELS", "NOTE"])
    for one in tokens:
        table.add_row(one.id, output.ago(one.created_at), one.used_by or "", output.labels(one.labels), one.note)
    output.console().print(table)


@app.command()
def delete(ctx: typer.Context, token_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Withdraw a token; an agent that enrolled with it stays."""
    with connect(ctx) as client:
        client.delete_token(token_id)
    if as_json:
        output.print_json({"deleted": token_id})
    else:
        typer.echo(f"deleted token {token_id}")
