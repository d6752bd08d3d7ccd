"""``fedloom campaign``: start campaigns, look at them, steer them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from shared.campaign import CampaignSpec
    from shared.wire.campaigns import CampaignView

app = typer.Typer(help="Start campaigns, watch them, steer them.", no_args_is_help=True)

IdOrName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Its id, or its name (the newest of that name).")]


@app.command()
def create(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A campaign file, YAML or JSON.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit with 1 unless it completes.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the file; ask no coordinator.")] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Scripts that run again give the same: one campaign is made, not two."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a campaign from a file."""
    spec = read_spec(file)
    if dry_run:
        if as_json:
            output.print_json(spec)
        else:
            typer.echo(f"{file} is valid: {spec.name}, {spec.rounds} round(s) of {spec.algorithm.name}")
        return
    with connect(ctx) as client:
        campaign = client.create_campaign(spec, idempotency_key)
        if not as_json:
            typer.echo(f"created campaign {campaign.name} ({campaign.id})")
        if wait:
            campaign = client.wait(campaign.id)
    if as_json:
        output.print_json(campaign)
    elif wait:
        typer.echo(f"{campaign.state}" + (f": {campaign.reason}" if campaign.reason else ""))
    else:
        typer.echo(f"watch it with: fedloom campaign watch {campaign.name}")
    if wait:
        raise typer.Exit(exit_code(campaign))


def read_spec(file: Path) -> "CampaignSpec":
    """A campaign file; what is wrong with it is told, and ends the command."""
    from shared.campaign_file import CampaignFileError, read_campaign_file

    try:
        return read_campaign_file(file)
    except CampaignFileError as error:
        typer.echo(str(error), err=True)
    except OSError as error:
        typer.echo(f"fedloom: {file}: {error.strerror}", err=True)
    raise typer.Exit(ExitCode.USAGE)


def exit_code(campaign: "CampaignView") -> ExitCode:
    """What a campaign's end means to a script."""
    from shared.states import CampaignState

    return ExitCode.DONE if campaign.state == CampaignState.COMPLETED else ExitCode.FAILED


@app.command("list")
def list_(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only campaigns of this name.")] = None,
    as_json: AsJson = False,
) -> None:
    """List campaigns, newest first."""
    with connect(ctx) as client:
        campaigns = list(client.campaigns(name))
    if as_json:
        output.print_json(campaigns)
        return
    if not campaigns:
        typer.echo("no campaigns; start one with: fedloom campaign create FILE")
        return
    table = output.table("NAME", "STATE", "ROUNDS", "CREATED", "ID", right=["ROUNDS"], fold=["NAME"])
    for one in campaigns:
        rounds = f"{one.rounds_closed}/{one.rounds}"
        table.add_row(one.name, output.state(one.state), rounds, output.ago(one.created_at), one.id)
    output.console().print(table)


@app.command()
def show(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Show a campaign: state, participants, rounds, work in progress."""
    from fedloom.cli.campaign import page as campaign_page

    with connect(ctx) as client:
        page = campaign_page.load(client, campaign)
    if as_json:
        output.print_json(page.as_json())
    else:
        page.print(output.console())


@app.command()
def watch(
    ctx: typer.Context,
    campaign: IdOrName,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")] = False,
) -> None:
    """Follow a campaign until it ends or is paused; exit with 1 unless it completes."""
    from fedloom.cli.campaign import watch as view

    with connect(ctx) as client:
        ended = view.watch(client, campaign, as_json=as_json)
    raise typer.Exit(exit_code(ended))


@app.command()
def pause(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Stop giving out work; what agents are at is finished."""
    with connect(ctx) as client:
        _tell(client.pause(client.find_campaign(campaign).id), as_json)


@app.command()
def resume(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Go on with a paused campaign."""
    with connect(ctx) as client:
        _tell(client.resume(client.find_campaign(campaign).id), as_json)


@app.command()
def rollback(
    ctx: typer.Context,
    campaign: IdOrName,
    round_number: Annotated[int, typer.Option("--round", min=0, help="The last round to keep; 0 keeps none.")],
    as_json: AsJson = False,
) -> None:
    """Undo all rounds after one, and pause there; bytes that were collected do not come back."""
    with connect(ctx) as client:
        found = client.rollback(client.find_campaign(campaign).id, round_number)
    if as_json:
        output.print_json(found)
        return
    typer.echo(f"{found.name} stands again where round {round_number} left it, and is paused")
    typer.echo(f"go on with: fedloom campaign resume {found.name}")


@app.command()
def verify(
    ctx: typer.Context,
    campaign: IdOrName,
    round_number: Annotated[int | None, typer.Option("--round", min=0, help="Only this one; 0 is adapter 0.")] = None,
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="Read a verification that was started before; start none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every round whose updates are stored, and compare digests; exit with 1 if one differs."""
    from fedloom.cli.campaign import verification

    if job is not None and round_number is not None:
        raise typer.BadParameter("--job reads the rounds that its verification has; leave --round out")
    with connect(ctx) as client:
        found = verification.verify(client, client.find_campaign(campaign), round_number, job, quiet=as_json)
    if as_json:
        output.print_json(found.outcomes)
    else:
        verification.show(found)
    raise typer.Exit(ExitCode.FAILED if verification.is_wrong(found) else ExitCode.DONE)


@app.command()
def cancel(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """End a campaign for good; its adapters stay."""
    with connect(ctx) as client:
        _tell(client.cancel(client.find_campaign(campaign).id), as_json)


@app.command()
def reference() -> None:
    """Describe every field of a campaign file."""
    from fedloom.reference.campaign_file import campaign_reference

    page = campaign_reference()
    if sys.stdout.isatty():
        from rich.markdown import Markdown

        output.console().print(Markdown(page))
    else:
        typer.echo(page, nl=False)


def _tell(campaign: "CampaignView", as_json: bool) -> None:
    if as_json:
        output.print_json(campaign)
    else:
        typer.echo(f"{campaign.name} is {campaign.state}")
