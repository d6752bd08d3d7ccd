"""``fedloom agent release``: the owner looks at an update that is held, and lets it go."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import Named, find, open_home
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.agent.typed_lines import is_terminal
from fedloom.cli.failures import ExitCode
from fedloom.errors import InvalidOption
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from agent.record.campaigns import KnownCampaign
    from agent.record.held import HeldUpdate
    from fedloom.cli.agent.known import OwnersHome


def release(
    campaign: Named,
    number: Annotated[
        int | None, typer.Option("--round", metavar="N", min=1, help="The round; needed if several are held.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Let an update go that is held here (hold_updates in agent.toml).

    Shows the update's norm beside those of earlier rounds, and your own
    held-out loss and five answers before and after it; then asks. Without
    your yes nothing is sent.

    Example: fedloom agent release clinic-notes --round 3
    """
    make_files_private()
    owners = open_home(home)
    known = find(owners.record, campaign)
    update = _chosen(known, owners.record.held.kept(known.id), number, home)
    if update is None:
        return
    _print(owners, update)
    if not update.is_held:
        output.say("it is released already; the agent sends it while it runs, as soon as it is free")
        return
    _check_accepted(known)
    if not yes:
        _confirm(update, home)
    if not owners.record.held.release(update):
        output.say(f"round {update.round} was released or ended meanwhile", err=True)
        return
    _tell(owners, update)


def release_line(update: "HeldUpdate", home: Path, *options: str) -> str:
    """The line to type to look at a held update and let it go."""
    from fedloom.cli.agent.deciding import command

    return command("release", update.campaign_id, home, "--round", str(update.round), *options)


def _chosen(
    known: "KnownCampaign", kept: "Sequence[HeldUpdate]", number: int | None, home: Path
) -> "HeldUpdate | None":
    """The update that is meant; None if nothing is held, which is said. Raises InvalidOption if it may be several."""
    name = visible_line(known.name)
    if not kept:
        output.say(f"no update of {name} is held; `hold_updates = true` in [policy] of agent.toml holds the next ones")
        return None
    found = [update for update in kept if number in (None, update.round)]
    held = [update for update in found if update.is_held] or found
    if len(held) == 1:
        return held[0]
    lines = "".join(f"\n  {release_line(update, home)}" for update in held or kept)
    if not found:
        raise InvalidOption(f"no update of round {number} of {name} is held; these are:{lines}")
    raise InvalidOption(f"{len(held)} updates of {name} are held; name the round of one:{lines}")


def _print(owners: "OwnersHome", update: "HeldUpdate") -> None:
    from fedloom.cli.agent.words.held import print_update

    print_update(output.console(), update, owners.record.bookings.norms(update.campaign_id))
    output.say()


def _check_accepted(known: "KnownCampaign") -> None:
    """Raise IllegalDecision unless the owner takes part: otherwise nothing may be sent."""
    from agent.errors import IllegalDecision

    if known.decision != "accepted":
        raise IllegalDecision(f"{known.name} is {known.decision}, so nothing is sent for it; approve it first")


def _confirm(update: "HeldUpdate", home: Path) -> None:
    """Ask on the terminal. Raises InvalidOption without one, and typer.Exit after a no."""
    if not is_terminal():
        line = release_line(update, home, "--yes")
        raise InvalidOption(f"there is no terminal to ask on. This releases the update above:\n  {line}")
    if not typer.confirm(f"Let the update of round {update.round} go to the coordinator?", err=True):
        output.say("it stays here", err=True)
        raise typer.Exit(ExitCode.FAILED)


def _tell(owners: "OwnersHome", update: "HeldUpdate") -> None:
    """Tell the coordinator, and say what comes of it. Ends with FAILED if the update can count nowhere."""
    from agent.errors import AgentError, CoordinatorRefused
    from agent.network.api import CoordinatorApi
    from shared.wire.problems import ProblemType

    async def send() -> None:
        api = CoordinatorApi.of(owners.identity, owners.workspace.ledger, owners.settings.network)
        try:
            await api.release_update(update.campaign_id, update.task_id)
        finally:
            await api.close()

    problem = ""
    try:
        asyncio.run(send())
    except CoordinatorRefused as refused:
        if refused.kind == ProblemType.ILLEGAL_MOVE:
            owners.record.held.end(update)
            output.say(f"nothing was sent: {visible_line(str(refused))}", err=True)
            raise typer.Exit(ExitCode.FAILED) from refused
        problem = str(refused)
    except (AgentError, OSError) as error:
        problem = str(error)
    else:
        owners.record.held.passed_on(update, is_told=True)
    output.say(f"round {update.round} is released; the agent sends it while it runs, as soon as it is free")
    if problem:
        output.say(f"the coordinator was not told: {visible_line(problem)}", err=True)
        output.say("the release stands; the agent passes it on while it runs, as soon as it can", err=True)
