"""``fedloom campaign``: start, watch and control campaigns."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.failures import ExitCode
from fedloom.cli.filters import Since, Until
from fedloom.cli.output import AsJson
from fedloom.errors import InvalidOption
from fedloom.exporting.export_options import Format, What
from shared.events import EventType
from shared.states import CampaignState
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from shared.campaign.spec import CampaignSpec
    from shared.wire.campaigns import CampaignView

_REASONS_SHOWN = 10

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
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only say what owners' default settings would refuse; exit with 1 if there is something."
        ),
    ] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="With the same key again, no second campaign starts. For scripts that may run twice."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a campaign from a file.

    Says first what owners' default settings would refuse of it, and which
    field to change. Owners may have set others.

    Example: fedloom campaign create campaign.yaml --wait
    """
    from fedloom.cli.campaign.owners_defaults import print_refusals

    spec = read_spec(file)
    if check and (dry_run or wait):
        other = "--dry-run" if dry_run else "--wait"
        raise InvalidOption(f"--check starts nothing and says all about the file, so it goes without {other}")
    if check:
        raise typer.Exit(ExitCode.FAILED if print_refusals(spec, as_json=as_json, alone=True) else ExitCode.DONE)
    print_refusals(spec, as_json=as_json)
    if dry_run:
        if as_json:
            output.print_json(spec)
        else:
            rounds = "1 round" if spec.rounds == 1 else f"{spec.rounds} rounds"
            output.say(f"{file} is valid: {spec.name}, {rounds} of {spec.algorithm.name}")
            _say_what_is_measured(spec)
            _say_what_is_kept(spec)
            _say_how_updates_are_sent(spec)
        return
    with connect(ctx) as client:
        campaign = client.create_campaign(spec, idempotency_key)
        if not as_json:
            output.say(f"created campaign {campaign.name} ({campaign.id})")
            if spec.evaluation.benchmarks or spec.evaluation.asks_for_a_decision:
                _say_what_is_measured(spec)
            _say_what_is_kept(spec)
            _say_how_updates_are_sent(spec)
        if wait:
            campaign = client.wait(campaign.id)
    if as_json:
        output.print_json(campaign)
    elif wait:
        output.say(f"{campaign.state}" + (f": {visible_line(campaign.reason)}" if campaign.reason else ""))
    else:
        output.say(f"watch it with: fedloom campaign watch {campaign.name}")
    if wait:
        raise typer.Exit(exit_code(campaign))


def _say_what_is_measured(spec: "CampaignSpec") -> None:
    from fedloom.adapters.benchmarks_shown import measuring_in_words

    for line in measuring_in_words(spec):
        output.say(line)


def _say_what_is_kept(spec: "CampaignSpec") -> None:
    if spec.retention.kept_updates is not None:
        output.say(f"it {spec.retention.kept_updates} (retention.updates), which owners must allow")


def _say_how_updates_are_sent(spec: "CampaignSpec") -> None:
    if spec.wire != "float32":
        output.say(f"its agents round updates to {spec.wire} before they send them (wire)")


def read_spec(file: Path) -> "CampaignSpec":
    """Read a campaign file. Raises CampaignFileError, and errors.InvalidOption if there is no such file."""
    from shared.campaign.file import read_campaign_file

    try:
        return read_campaign_file(file)
    except OSError as error:
        raise InvalidOption(f"{file}: {error.strerror}") from error


def exit_code(campaign: "CampaignView") -> ExitCode:
    """The exit code for a campaign that has ended or is paused."""
    from shared.states import CampaignState

    return ExitCode.DONE if campaign.state == CampaignState.COMPLETED else ExitCode.FAILED


@app.command("list")
def list_(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only campaigns of this name.")] = None,
    state: Annotated[CampaignState | None, typer.Option(help="Only campaigns in this state.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only campaigns of this kind of training.")] = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """List campaigns, newest first. Times are those of creation."""
    with connect(ctx) as client:
        campaigns = list(client.campaigns(name, state=state, kind=kind, since=since, until=until))
    if as_json:
        output.print_json(campaigns)
        return
    if not campaigns:
        filtered = any((name, state, kind, since, until))
        output.say("no such campaigns" if filtered else "no campaigns; start one with: fedloom campaign create FILE")
        return
    table = output.table("NAME", "STATE", "ROUNDS", "CREATED", "ID", right=["ROUNDS"], fold=["NAME"])
    for campaign in campaigns:
        rounds = f"{campaign.rounds_closed}/{campaign.rounds}"
        created = output.ago(campaign.created_at)
        table.add_row(campaign.name, output.state(campaign.state), rounds, created, campaign.id)
    output.console().print(table)
    _print_reasons(campaigns)


def _print_reasons(campaigns: "list[CampaignView]") -> None:
    """What the campaigns that are not over wait for, or why they are paused."""
    from rich.text import Text

    console = output.console()
    reasons = [each for each in campaigns if each.reason and not each.state.is_final]
    for number, campaign in enumerate(reasons[:_REASONS_SHOWN]):
        words = f"{campaign.name}: {campaign.reason}"
        console.print(Text(("" if number else "\n") + visible_line(words), style="yellow"))
    if len(reasons) > _REASONS_SHOWN:
        console.print(f"and {len(reasons) - _REASONS_SHOWN} more wait or are paused", style="dim")


@app.command()
def show(
    ctx: typer.Context,
    campaign: IdOrName,
    whole: Annotated[bool, typer.Option("--all", help="Show all agents and rounds, however many there are.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a campaign's state, agents, losses by client, rounds, benchmarks, current tasks, and who gains."""
    from fedloom.cli.campaign import page as campaign_page

    with connect(ctx) as client:
        page = campaign_page.load(client, campaign)
    if as_json:
        output.print_json(page.as_json())
    else:
        page.print(output.console(), whole=whole)


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
def export(
    ctx: typer.Context,
    campaign: IdOrName,
    what: Annotated[What, typer.Option(help="What to write.")] = What.METRICS,
    form: Annotated[Format, typer.Option("--format", help="CSV, or one JSON document a line.")] = Format.CSV,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file, not to stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a campaign's metrics, benchmarks, rounds, events, clients or gains for a spreadsheet or a script.

    In CSV a text that a spreadsheet would run as a formula begins with an
    apostrophe. A file is readable by its owner only.

    Example: fedloom campaign export clinic-notes -o clinic-notes.csv
    """
    from fedloom.cli.campaign.export_file import opened
    from fedloom.exporting.export import export as export_records

    with connect(ctx) as client, opened(out, force=force) as file:
        export_records(client, client.campaign(campaign), what, form, file)


@app.command()
def events(
    ctx: typer.Context,
    campaign: Annotated[
        str | None,
        typer.Argument(metavar="CAMPAIGN", help="Campaign id or name; without one, the events of all campaigns."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events as they happen.")] = False,
    types: Annotated[
        list[EventType] | None,
        typer.Option("--type", metavar="TYPE", help="Only events of this type (docs/events.md). May be repeated."),
    ] = None,
    since: Since = None,
    until: Until = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")] = False,
) -> None:
    """Print what happened, in one campaign or in all.

    Example: fedloom campaign events --follow --type campaign-moved
    """
    from fedloom.cli.campaign.events import print_events

    with connect(ctx) as client:
        print_events(client, campaign, types or [], since, until, follow=follow, as_json=as_json)


@app.command()
def pause(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Pause a campaign: agents finish their current tasks and get no new ones."""
    with connect(ctx) as client:
        _print_state(client.pause(campaign), as_json)


@app.command()
def resume(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Continue a paused campaign."""
    with connect(ctx) as client:
        _print_state(client.resume(campaign), as_json)


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
        view = client.rollback(campaign, round_number)
    if as_json:
        output.print_json(view)
        return
    output.say(f"{view.name} is rolled back to round {round_number} and paused")
    output.say(f"continue with: fedloom campaign resume {view.name}")


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
        found_campaign = client.campaign(campaign)
        if cancel_job and job is not None:
            client.cancel_verification(found_campaign.id, job)
        found = verification.verify(client, found_campaign, round_number, job, quiet=as_json)
    if as_json:
        output.print_json(found.outcomes)
    else:
        verification.show(found)
    raise typer.Exit(ExitCode.FAILED if verification.is_wrong(found) else ExitCode.DONE)


@app.command()
def finish(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """Finish a campaign early with the adapter that it has.

    An open round that has its minimum of updates still counts, and is dropped otherwise. Then the last adapter is
    evaluated, and becomes the final one.

    Example: fedloom campaign finish clinic-notes
    """
    with connect(ctx) as client:
        _print_state(client.finish(campaign), as_json)


@app.command()
def cancel(ctx: typer.Context, campaign: IdOrName, as_json: AsJson = False) -> None:
    """End a campaign for good; its adapters are kept."""
    with connect(ctx) as client:
        _print_state(client.cancel(campaign), as_json)


@app.command()
def reference() -> None:
    """Print the reference of the campaign file: every field, its values and its default."""
    from fedloom.reference.campaign_file import campaign_reference

    page = campaign_reference()
    if output.is_terminal():
        from rich.markdown import Markdown

        output.console().print(Markdown(page))
    else:
        output.say(page, nl=False)


def _print_state(campaign: "CampaignView", as_json: bool) -> None:
    if as_json:
        output.print_json(campaign)
    else:
        output.say(f"{campaign.name} is {campaign.state}")
