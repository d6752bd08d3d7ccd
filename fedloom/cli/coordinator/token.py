"""``fedloom token``: one-time tokens that agents enrol with."""

from typing import Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

app = typer.Typer(help="Create and manage the one-time tokens that agents enrol with.", no_args_is_help=True)

DAY_S = 86400.0


@app.command()
def create(
    ctx: typer.Context,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label for the agent. May be repeated.")
    ] = None,
    days: Annotated[float, typer.Option(min=0.001, max=366, help="Days until the token expires.")] = 7.0,
    note: Annotated[str, typer.Option(help="A note, such as who the token is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a token for one agent. The token is shown only once.

    Example: fedloom token create --label site=north --note "for the clinic"
    """
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
        f"\nThe token works once, until {token.expires_at.astimezone():%Y-%m-%d %H:%M}. The data owner runs:\n"
        f"  fedloom agent enroll --coordinator {url} --token {token.token}",
        err=True,  # so that TOKEN=$(fedloom token create) holds the token alone
    )


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for label in given:
        name, equals, value = label.partition("=")
        if not equals:
            message = f"{label!r} does not have the form NAME=VALUE"
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
        typer.echo("no tokens; create one with: fedloom token create")
        return
    table = output.table("ID", "CREATED", "USED BY", "LABELS", "NOTE", fold=["LABELS", "NOTE"])
    for token in tokens:
        created = output.ago(token.created_at)
        table.add_row(token.id, created, token.used_by or "", output.labels(token.labels), token.note)
    output.console().print(table)


@app.command()
def delete(
    ctx: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `fedloom token list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Delete a token. An agent that enrolled with it stays enrolled."""
    with connect(ctx) as client:
        client.delete_token(token_id)
    if as_json:
        output.print_json({"deleted": token_id})
    else:
        typer.echo(f"deleted token {token_id}")
