"""``fedloom campaign verify``: asks for round after round, and shows what was found."""

from collections.abc import Sequence

import typer
from rich.progress import Progress

from fedloom.cli import output
from fedloom.client import Client
from shared.wire.campaigns import CampaignView
from shared.wire.verification import Outcome, RoundVerification

_COLOURS = {
    Outcome.VERIFIED: "green",
    Outcome.NOT_KEPT: "yellow",
    Outcome.DIFFERS: "red",
    Outcome.CORRUPT: "red",
}


def verify(client: Client, campaign: CampaignView, only: int | None, *, quiet: bool) -> list[RoundVerification]:
    """Have one round verified, or all that are closed, with a progress bar on a terminal. Raises errors.NotFound."""
    numbers = range(campaign.rounds_closed + 1) if only is None else [only]
    console = output.console(stderr=True)
    found = []
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task("computing rounds anew", total=len(numbers))
        for number in numbers:
            found.append(client.verify_round(campaign.id, number))
            progress.advance(task)
    return found


def is_wrong(found: Sequence[RoundVerification]) -> bool:
    """Whether anything differs or is corrupt; what is merely not kept is not wrong."""
    return any(one.outcome in (Outcome.DIFFERS, Outcome.CORRUPT) for one in found)


def show(found: Sequence[RoundVerification]) -> None:
    """Print a line for each round, and what they amount to."""
    from rich.text import Text

    table = output.table("ROUND", "OUTCOME", "ADAPTER", "REASON", right=["ROUND"], fold=["REASON"])
    for one in found:
        outcome = Text(one.outcome, style=_COLOURS[one.outcome])
        table.add_row(str(one.round), outcome, one.adapter_sha256[:12], one.reason or "")
    output.console().print(table)
    n_by_outcome = {outcome: sum(one.outcome is outcome for one in found) for outcome in Outcome}
    wrong = n_by_outcome[Outcome.DIFFERS] + n_by_outcome[Outcome.CORRUPT]
    typer.echo(
        f"\n{n_by_outcome[Outcome.VERIFIED]} verified, {n_by_outcome[Outcome.NOT_KEPT]} not kept, {wrong} wrong"
        + ("\ngo back to one that is right with: fedloom campaign rollback" if wrong else "")
    )
