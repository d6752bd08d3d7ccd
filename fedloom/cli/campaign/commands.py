"""``fedloom campaign``: start, watch and control campaigns."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from shared.campaign.spec import CampaignSpec
    from shared.wire.campaigns import CampaignView

app = typer.Typer(help="Start, watch and control campaigns.", no_args_is_help=True)

IdOrName = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="Campaign id or name; a name means its newest campaign.")
]


@app.command()
def create(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A campaign file, YAML or JSON.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it ends; exit with 1 unless it completes.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the file; contact no coordinator.")] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="With the same key again, no second campaign starts. For scripts that may run twice."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a campaign from a file.

    Example: fedloom campaign create campaign.yaml --wait
    """
    spec = read_spec(file)
    if dry_run:
        if as_json:
            output.print_json(spec)
        else:
            rounds = "1 round" if spec.rounds == 1 else f"{spec.rounds} rounds"
            typer.echo(f"{file} is valid: {spec.name}, {rounds} of {spec.algorithm.name}")
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
    """Read a campaign file. An invalid file ends the command: its errors on stderr, exit code USAGE."""
    from shared.campaign.file import CampaignFileError, read_campaign_file

    try:
        return read_campaign_file(file)
    except CampaignFileError as error:
        typer.echo(str(error), err=True)
    except OSError as error:
        typer.echo(f"fedloom: {file}: {error.strerror}", err=True)
    raise typer.Exit(ExitCode.USAGE)


def exit_code(campaign: "CampaignView") -> ExitCode:
    """The exit code for a campaign that has ended or is paused."""
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
    for campaign in campaigns:
        rounds = f"{campaign.rounds_closed}/{campaign.rounds}"
        created = output.ago(campaign.created_at)
        table.add_row(campaign.name, output.state(campaign.state), rounds, created, campaign.id)
    output.console().print(table)


@app.command()
def show(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Show a campaign's state, participants, rounds and current tasks."""
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
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")] = False,
) -> None:
    """Follow a campaign until it ends or is paused; exit with 1 unless it completes."""
    from fedloom.cli.campaign import watch as campaign_watch

    with connect(ctx) as client:
        last_state = campaign_watch.watch(client, campaign, as_json=as_json)
    raise typer.Exit(exit_code(last_state))


@app.command()
def pause(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Pause a campaign: agents finish their current tasks and get no new ones."""
    with connect(ctx) as client:
        _print_state(client.pause(client.find_campaign(campaign).id), as_json)


@app.command()
def resume(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Continue a paused campaign."""
    with connect(ctx) as client:
        _print_state(client.resume(client.find_campaign(campaign).id), as_json)


@app.command()
def rollback(
    ctx: typer.Context,
    campaign: IdOrName,
    round_number: Annotated[
        int, typer.Option("--round", min=0, help="The last round to keep; 0 keeps only the initial adapter.")
    ],
    as_json: AsJson = False,
) -> None:
    """Undo all rounds after a given one, and pause. Files that retention deleted are not restored.

    Example: fedloom campaign rollback clinic-notes --round 3
    """
    with connect(ctx) as client:
        view = client.rollback(client.find_campaign(campaign).id, round_number)
    if as_json:
        output.print_json(view)
        return
    typer.echo(f"{view.name} is rolled back to round {round_number} and paused")
    typer.echo(f"continue with: fedloom campaign resume {view.name}")


@app.command()
def verify(
    ctx: typer.Context,
    campaign: IdOrName,
    round_number: Annotated[int | None, typer.Option("--round", min=0, help="Only this one; 0 is adapter 0.")] = None,
    job: Annotated[
        str | None, typer.Option(metavar="ID", help="Read a verification that was started before; start none.")
    ] = None,
    cancel_job: Annotated[bool, typer.Option("--cancel", help="End the verification given by --job early.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute every round whose updates are stored, and compare digests; exit with 1 if one differs."""
    from fedloom.cli.campaign import verification

    if job is not None and round_number is not None:
        raise typer.BadParameter("--job reads the rounds that its verification has; leave --round out")
    if cancel_job and job is None:
        raise typer.BadParameter("--cancel needs the verification's ID, as --job ID")
    with connect(ctx) as client:
        found_campaign = client.find_campaign(campaign)
        if cancel_job and job is not None:
            client.cancel_verification(found_campaign.id, job)
        found = verification.verify(client, found_campaign, round_number, job, quiet=as_json)
    if as_json:
        output.print_json(found.outcomes)
    else:
        verification.show(found)
    raise typer.Exit(ExitCode.FAILED if verification.is_wrong(found) else ExitCode.DONE)


@app.command()
def cancel(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """End a campaign for good; its adapters are kept."""
    with connect(ctx) as client:
        _print_state(client.cancel(client.find_campaign(campaign).id), as_json)


@app.command()
def reference() -> None:
    """Print the reference of the campaign file: every field, its values and its default."""
    from fedloom.reference.campaign_file import campaign_reference

    page = campaign_reference()
    if sys.stdout.isatty():
        from rich.markdown import Markdown

        output.console().print(Markdown(page))
    else:
        typer.echo(page, nl=False)


def _print_state(campaign: "CampaignView", as_json: bool) -> None:
    if as_json:
        output.print_json(campaign)
    else:
        typer.echo(f"{campaign.name} is {campaign.state}")
