"""``fedloom token``: one-time tokens that agents enrol with."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.filters import Labels, Since, Until, read_labels
from fedloom.cli.output import AsJson
from fedloom.errors import InvalidOption
from shared.states import TokenState

if TYPE_CHECKING:
    from shared.wire.enrollments import TokenView

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

    from shared.wire.words import problems_in_words

    with connect(ctx) as client:
        try:
            token = client.create_token(read_labels(label), expires_in_s=days * DAY_S, note=note)
        except ValidationError as error:
            raise InvalidOption("; ".join(problems_in_words(error))) from error
        url = client.url
    if as_json:
        output.print_json(token)
        return
    output.say(token.token)
    output.say(
        f"\nThe token works once, until {token.expires_at.astimezone():%Y-%m-%d %H:%M}. The data owner runs this, and\n"
        f"enters the token when asked:\n  fedloom agent enroll --coordinator {url}",
        err=True,  # so that TOKEN=$(fedloom token create) holds the token alone
    )


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[TokenState | None, typer.Option(help="Only tokens that are open, used or expired.")] = None,
    label: Labels = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """List tokens, newest first, without their secrets. Times are those of creation."""
    labels = read_labels(label)
    with connect(ctx) as client:
        tokens = list(client.tokens(state=state, labels=labels, since=since, until=until))
    if as_json:
        output.print_json(tokens)
        return
    if not tokens:
        filtered = any((state, labels, since, until))
        output.say("no such tokens" if filtered else "no tokens; create one with: fedloom token create")
        return
    table = output.table("ID", "CREATED", "EXPIRES", "USED BY", "LABELS", "NOTE", fold=["USED BY", "LABELS", "NOTE"])
    for token in tokens:
        created = output.ago(token.created_at)
        table.add_row(token.id, created, _expires(token), token.used_by or "", output.labels(token.labels), token.note)
    output.console().print(table)


def _expires(token: "TokenView") -> str:
    """How long a token can still be used; empty once it was."""
    if token.used_at is not None:
        return ""
    left_s = (token.expires_at - datetime.now(UTC)).total_seconds()
    return f"in {output.duration(left_s)}" if left_s > 0 else "expired"


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
        output.say(f"deleted token {token_id}")
