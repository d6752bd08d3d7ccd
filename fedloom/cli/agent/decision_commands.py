"""``fedloom agent approve``, ``refuse``, ``pause``, ``leave``, ``forget``: the owner's word on one campaign."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import Named, find, find_asked, is_digest_of, line_of, open_home
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.agent.typed_lines import is_terminal
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.errors import InvalidOption
from shared.system.private_files import make_files_private

if TYPE_CHECKING:
    from agent.record.bookings import Totals
    from agent.record.campaigns import KnownCampaign
    from fedloom.cli.agent.known import OwnersHome


def approve(
    campaign: Named,
    home: Home = DEFAULT_HOME,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do not ask; needed where there is no terminal. CAMPAIGN is then the whole digest."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take part in a campaign, go on after a pause, or try again after a failure.

    Shows the campaign, and asks. The approval covers exactly what is shown,
    by its digest: a changed campaign asks again. It overrides no setting of
    agent.toml: what a setting refuses stays refused, and the exit code is 1.

    With --yes nobody looks before it counts, and what has a name or an id
    may have changed since you looked: so name it by all 64 characters of
    the digest, which `fedloom agent campaigns` prints.

    Example: fedloom agent approve clinic-notes
    """
    from agent.record.campaigns import Decision

    owners = _opened(home)
    known = find_asked(owners.record, campaign)
    _show(owners, known, as_json=as_json)
    _check_settings(owners, known)
    if yes:
        _check_is_digest(known, campaign, home)
    elif known.decision is not Decision.ACCEPTED:
        _confirm(known, home)
    _decide(owners, known, Decision.ACCEPTED, as_json=as_json)


def refuse(campaign: Named, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Refuse a campaign that waits for you. You can still approve it later."""
    from agent.record.campaigns import Decision

    owners = _opened(home)
    _decide(owners, find_asked(owners.record, campaign), Decision.REFUSED, as_json=as_json)


def pause(campaign: Named, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Take no part for now: no work is done and nothing is sent for it until you approve it again."""
    from agent.record.campaigns import Decision

    _decide(*_found(home, campaign), Decision.PAUSED, as_json=as_json)


def leave(campaign: Named, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Leave a campaign that you take part in. What was sent cannot be taken back. Approving it joins again."""
    from agent.record.campaigns import Decision

    _decide(*_found(home, campaign), Decision.LEFT, as_json=as_json)


def forget(campaign: Named, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Delete what you decided about a campaign, which ends your part in it. What was done for it stays counted."""
    from agent.report.alone import delete_alone
    from fedloom.cli.agent.deciding import tell
    from shared.wire.agents import Part

    owners, known = _found(home, campaign)
    counted = owners.record.bookings.of_campaign(known.id)
    line = line_of(owners.record, known)
    owners.record.campaigns.forget(known.id)
    delete_alone(owners.workspace, known.id)
    told = tell(owners, known.id, Part.LEFT)
    if as_json:
        output.print_json({**line.model_dump(mode="json"), "forgotten": True, "told": not told.problem})
    else:
        _say_forgotten(known, counted)
    if not told.is_final:  # a campaign that is over needs no word
        told.say()


def _say_forgotten(known: "KnownCampaign", counted: "Totals") -> None:
    output.say(f"forgot campaign {known.name} ({known.id}); if it asks again, it waits for you again")
    trainings = f"{counted.n_trainings} training{'' if counted.n_trainings == 1 else 's'}"
    output.say(
        f"not forgotten: {trainings} of {counted.n_rows:,} rows and {counted.n_evaluations} evaluations, which count "
        "towards your limits as before"
    )


@dataclass(frozen=True)
class _Rule:
    """What a decision may follow, and the words before and after it."""

    before: tuple[str, ...]
    hint: str
    said: str


_RULES = {
    "accepted": _Rule(
        ("waiting", "accepted", "refused", "paused", "left"), "", "you take part in {name}, by the digest\n{digest}"
    ),
    "refused": _Rule(
        ("waiting", "refused"), "to end your part in it, leave it", "you refused {name}; to change that, approve it"
    ),
    "paused": _Rule(
        ("accepted", "paused"),
        "only a campaign that you take part in can be paused",
        "{name} is paused; approve it again to go on",
    ),
    "left": _Rule(
        ("accepted", "paused", "left"),
        "only a campaign that you take part in can be left; refuse one that waits",
        "you left {name}; what was sent stays with the coordinator. To join again, approve it",
    ),
}


def _found(home: Path, named: str) -> "tuple[OwnersHome, KnownCampaign]":
    owners = _opened(home)
    return owners, find(owners.record, named)


def _opened(home: Path) -> "OwnersHome":
    make_files_private()
    return open_home(home)


def _show(owners: "OwnersHome", known: "KnownCampaign", *, as_json: bool) -> None:
    from fedloom.cli.agent.words.campaign import campaign_table

    output.console(stderr=as_json).print(campaign_table(known, owners.settings.policy))


def _check_settings(owners: "OwnersHome", known: "KnownCampaign") -> None:
    """End with FAILED if a setting refuses the campaign."""
    from fedloom.cli.agent.deciding import refusal_in_words

    if lines := refusal_in_words(owners, known):
        output.say("", err=True)
        for line in lines:
            output.say(line, err=True)
        raise typer.Exit(ExitCode.FAILED)


def _check_is_digest(known: "KnownCampaign", named: str, home: Path) -> None:
    """Raise InvalidOption unless a campaign that nobody is asked about is named by its whole digest."""
    if not is_digest_of(known, named):
        message = "--yes approves only what is named by its whole digest, since all else may change after you looked"
        raise InvalidOption(f"{message}.\nFor the campaign above that is:\n  {_unasked(known, home)}")


def _unasked(known: "KnownCampaign", home: Path) -> str:
    """The command that approves exactly this specification without a question."""
    from fedloom.cli.agent.deciding import command

    return command("approve", known.spec_sha256, home, "--yes")


def _confirm(known: "KnownCampaign", home: Path) -> None:
    """Ask on the terminal. Raises InvalidOption without one, and typer.Exit after a no."""
    if not is_terminal():
        message = "there is no terminal to ask on. Look at the campaign above; this approves exactly it"
        raise InvalidOption(f"{message}:\n  {_unasked(known, home)}")
    if not typer.confirm(f"\nTake part in {known.name}, by the digest\n{known.spec_sha256}?", err=True):
        output.say("nothing was decided", err=True)
        raise typer.Exit(ExitCode.FAILED)


def _decide(owners: "OwnersHome", known: "KnownCampaign", decision: str, *, as_json: bool) -> None:
    """Record a decision, tell the coordinator, and say so. Raises IllegalDecision."""
    from agent.errors import IllegalDecision
    from agent.owner.word import PARTS
    from agent.record.campaigns import Decision
    from fedloom.cli.agent.deciding import record_decision, tell

    rule, wanted = _RULES[decision], Decision(decision)
    if known.decision not in rule.before:
        raise IllegalDecision(f"{known.name} is {known.decision}: {rule.hint}")
    if not record_decision(owners, known, wanted):
        raise IllegalDecision(f"{known.name} has changed meanwhile, and waits for you again; look at it once more")
    told = tell(owners, known.id, PARTS[wanted])
    if as_json:
        now = owners.record.campaigns.find(known.id) or known
        heard = {"told": not told.problem, "over": told.is_over}
        output.print_json({**line_of(owners.record, now).model_dump(mode="json"), **heard})
    elif told.is_over:
        output.say(f"{known.name} is over: nothing more is asked of you")
    else:
        output.say(rule.said.format(name=known.name, digest=known.spec_sha256))
    told.say()
