"""``fedloom agent fingerprint``: one line that stands for all that the coordinator signed."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import find, open_home
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.errors import InvalidOption
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.record.campaigns import KnownCampaign
    from agent.signing.fingerprints import Fingerprint
    from agent.signing.following import SignedCampaigns
    from fedloom.cli.agent.known import OwnersHome


def fingerprint(
    campaign: Annotated[
        str | None,
        typer.Argument(
            metavar="[CAMPAIGN]",
            help="Its digest or the first 6 or more characters of it, its id or name; without it, the signing key.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=0, help="As of this statement; by default the newest.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Print one line to compare with other owners over the telephone.

    The coordinator signs the specification, the clients of each round and
    each adapter. The line stands for all of that up to one statement: owners
    with equal lines were told the same. Ask for the same statement: --at.

    Without CAMPAIGN it prints the key that the coordinator signs by.

    Example: fedloom agent fingerprint clinic-notes
    """
    make_files_private()
    owners = open_home(home)
    if campaign is None:
        problem, is_refused = _ask(owners, lambda signed: signed.check_key())
        _print_key(owners, problem, as_json=as_json)
    else:
        known = find(owners.record, campaign)
        problem, is_refused = _ask(owners, lambda signed: signed.catch_up(known.id))
        _print_statement(owners, known, at, problem, as_json=as_json)
    if problem and not as_json:
        output.say(visible_line(problem if is_refused else f"{problem}; this is what was known before"), err=True)
    if is_refused:
        raise typer.Exit(ExitCode.FAILED)


def _ask(owners: "OwnersHome", work: "Callable[[SignedCampaigns], Awaitable[object]]") -> tuple[str, bool]:
    """Ask for what was signed since the last time. Returns what went wrong, empty if nothing; and whether what came was
    refused."""
    from agent.errors import AgentError, TaskFailed
    from agent.network.api import CoordinatorApi
    from agent.signing.following import SignedCampaigns

    async def ask() -> None:
        api = CoordinatorApi.of(owners.identity, owners.workspace.ledger, owners.settings.network)
        try:
            await work(SignedCampaigns(api, owners.identity.name, owners.statements))
        finally:
            await api.close()

    try:
        asyncio.run(ask())
    except TaskFailed as refused:
        return str(refused), True
    except (AgentError, OSError) as error:
        return f"the coordinator could not be asked: {error}", False
    return "", False


def _fingerprint_of(owners: "OwnersHome", known: "KnownCampaign", at: int | None) -> "Fingerprint":
    from agent.signing.fingerprints import fingerprint_of
    from agent.signing.keys import PinnedKey

    statements = owners.statements
    texts = statements.of_campaign(known.id)
    if not texts:
        raise InvalidOption(f"the coordinator has signed nothing of {known.name} that this agent could accept")
    if at is not None and at >= len(texts):
        raise InvalidOption(f"--at: the newest statement of {known.name} is {len(texts) - 1}")
    key = PinnedKey(statements).current
    return fingerprint_of(key, texts[at if at is not None else -1])


def _print_statement(
    owners: "OwnersHome", known: "KnownCampaign", at: int | None, problem: str, *, as_json: bool
) -> None:
    found, refused = _fingerprint_of(owners, known, at), owners.statements.contradictions(known.id)
    if as_json:
        contradictions = [each.__dict__ for each in refused]
        output.print_json(
            {"campaign": known.id, **found.__dict__, "problem": problem, "contradictions": contradictions}
        )
        return
    output.say(f"statement {found.number}: {found.spoken}")
    said = f"{visible_line(known.name)}, as of {found.about}; ask other owners for the same statement"
    output.say(f"{said}: --at {found.number}", err=True)
    for each in refused:
        output.say(f"refused {output.ago(each.at)}: {visible_line(each.reason)}", err=True)


def _print_key(owners: "OwnersHome", problem: str, *, as_json: bool) -> None:
    from agent.signing.keys import PinnedKey
    from shared.signing.keys import spoken

    key = PinnedKey(owners.statements)
    followed = owners.statements.later_keys()
    if as_json:
        later = [{"key": each, "since": since} for each, since in followed]
        facts = {"coordinator": owners.identity.coordinator, "pinned": owners.statements.pinned, "followed": later}
        output.print_json({**facts, "problem": problem})
        return
    output.say(f"key: {spoken(key.current)}")
    output.say(f"the signing key of {visible_line(owners.identity.coordinator)}; its operator sees the same", err=True)
    if followed:
        first = f"the key of the enrolment was {spoken(owners.statements.pinned)}"
        output.say(f"{first}; {len(followed)} followed, the last {output.ago(followed[-1][1])}, each signed", err=True)
