"""``fedloom agent campaigns``: the campaigns that this agent was asked to take part in."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import OwnersHome, decided, find, held_rounds, line_of, named_so, open_home
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.output import AsJson
from fedloom.errors import InvalidOption
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

_ID_WIDTH = 32
"""The width of an id, which stays on one line to be copied."""
_REFUSED = " (refused by your settings: -v)"

if TYPE_CHECKING:
    from agent.record.campaigns import KnownCampaign


def campaigns(
    campaign: Annotated[
        str | None,
        typer.Argument(metavar="[CAMPAIGN]", help="Only this one, in plain words: its digest, id or name."),
    ] = None,
    home: Home = DEFAULT_HOME,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show each in plain words, as approve does.")
    ] = False,
    spec: Annotated[
        bool, typer.Option("--spec", help="Print all that the digest of CAMPAIGN covers, field by field, as JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the campaigns that asked for your data: what was decided by whom, what was done, what waits for you.

    Compare all 64 characters of a digest with other owners: with equal ones
    you were asked the same. A beginning proves nothing, since others can
    make a second campaign that begins so. --verbose and --json print it whole.

    Example: fedloom agent campaigns clinic-notes --spec
    """
    make_files_private()
    owners = open_home(home)
    if spec:
        _print_spec(owners, campaign)
        return
    known = list(owners.record.campaigns.all()) if campaign is None else named_so(owners.record, campaign)
    if as_json:
        output.print_json(line_of(owners.record, each) for each in known)
        return
    if not known:
        output.say("no campaign has asked yet; what comes is listed here while the agent runs")
        return
    if verbose or campaign is not None:
        _print_words(owners, known)
    else:
        _print_table(owners, known)
    _print_next(known, home)
    _print_held(owners, known, home)


def _print_spec(owners: OwnersHome, campaign: str | None) -> None:
    from shared.campaign.digest import covered_by_digest

    if campaign is None:
        raise InvalidOption("--spec prints one campaign: name it by its digest, its id or its name")
    known = find(owners.record, campaign)
    output.print_json(covered_by_digest(known.spec, known.terms.created_on))


def _print_table(owners: OwnersHome, known: "Sequence[KnownCampaign]") -> None:
    from rich.text import Text

    runs = {each.id: owners.record.benchmarks.count(each.id) for each in known}
    numbers = ["ROUNDS", *(["BENCHMARKS"] if any(runs.values()) else [])]
    table = output.table("CAMPAIGN, ID, DIGEST", "DECIDED", "DATA", *numbers, right=numbers, fold=["DECIDED", "DATA"])
    table.columns[0].width, table.columns[0].no_wrap, table.columns[0].overflow = _ID_WIDTH, False, "fold"
    for each in known:
        trained = owners.record.bookings.rounds_trained(each.id)
        name = Text(visible_line(each.name)).append(f"\n{visible_line(each.id)}\n{each.spec_sha256[:12]}…", style="dim")
        style = "yellow" if each.decision == "waiting" else ""
        counts = [f"{trained}/{each.spec.rounds}", str(runs[each.id])][: len(numbers)]
        words = decided(each) + (_REFUSED if _is_refused(owners, each, trained) else "")
        table.add_row(name, Text(visible_line(words), style), each.spec.data.name, *counts)
    output.console().print(table)


def _is_refused(owners: OwnersHome, known: "KnownCampaign", n_trained: int) -> bool:
    """Whether the settings refuse a campaign that was not refused by hand, and that may still ask for work."""
    from fedloom.cli.agent.deciding import refusals_of

    is_open = known.decision not in ("refused", "left") and n_trained < known.spec.rounds
    return is_open and bool(refusals_of(owners, known))


def _print_words(owners: OwnersHome, known: "Sequence[KnownCampaign]") -> None:
    from rich.text import Text

    from fedloom.cli.agent.deciding import refusal_lines, refusals_of
    from fedloom.cli.agent.words.benchmarks import score_lines
    from fedloom.cli.agent.words.campaign import campaign_table

    for number, each in enumerate(known):
        if number:
            output.say()
        table = campaign_table(each, owners.settings.policy)
        table.add_row("decided", decided(each))
        trained = owners.record.bookings.rounds_trained(each.id)
        table.add_row("trained", f"{trained} of {each.spec.rounds} rounds")
        if lines := _own_losses(owners, each):
            table.add_row("own losses", Text("\n".join(lines)))
        if lines := score_lines(owners.record, each.id):
            table.add_row("benchmarks ran", Text("\n".join(lines)))
        if held := held_rounds(owners.record, each.id):
            table.add_row("held", f"the update{'' if len(held) == 1 else 's'} of round {', '.join(map(str, held))}")
        if lines := refusal_lines(refusals_of(owners, each)):
            table.add_row("refused by", Text("\n".join(lines)))
        output.console().print(table)


def _own_losses(owners: OwnersHome, known: "KnownCampaign") -> list[str]:
    """Own losses by round, as lines; none before the first round."""
    from agent.owner.losses import OwnLosses, why_none

    losses = OwnLosses.of(owners.record, known.id, known.spec.kind)
    lines = losses.table()
    if lines and not losses.held_out:
        lines.append(f"on held-out rows unknown: {why_none(known, owners.settings.policy)}")
    return lines


def _print_next(known: "Sequence[KnownCampaign]", home: Path) -> None:
    from fedloom.cli.agent.deciding import command

    for each in known:
        if each.decision == "waiting":
            approve, refuse = (command(verb, each.spec_sha256, home) for verb in ("approve", "refuse"))
            output.say(
                f"\n{visible_line(each.name)} waits for you. Look at it, then take part or refuse, by its digest:"
            )
            output.say(f"  {approve}\n  {refuse}")
            output.say("approve shows it and asks; with --yes it does not ask, as where there is no terminal")


def _print_held(owners: OwnersHome, known: "Sequence[KnownCampaign]", home: Path) -> None:
    from fedloom.cli.agent.release_command import release_line

    for each in known:
        for update in owners.record.held.kept(each.id):
            if update.is_held:
                output.say(f"\n{visible_line(each.name)}: the update of round {update.round} is held, and goes after:")
                output.say(f"  {release_line(update, home)}")
