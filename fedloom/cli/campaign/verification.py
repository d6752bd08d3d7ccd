"""``fedloom campaign verify``: has rounds verified, and shows progress and outcomes."""

import sys
from collections.abc import Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.failures import ExitCode
from fedloom.client import Client
from shared.states import VerificationState
from shared.text.plain_text import visible_line
from shared.wire.campaigns import CampaignView
from shared.wire.verification import Outcome, RoundVerification, VerificationDetail, VerificationView

_COLOURS = {
    Outcome.VERIFIED: "green",
    Outcome.NOT_KEPT: "yellow",
    Outcome.ROLLED_BACK: "yellow",
    Outcome.DIFFERS: "red",
    Outcome.CORRUPT: "red",
    Outcome.FAILED: "red",
}


def verify(
    client: Client, campaign: CampaignView, only: int | None, job_id: str | None, *, quiet: bool
) -> VerificationDetail:
    """Have one round verified, or all that are closed, or follow a job; with a progress bar on a terminal.

    Ctrl-C ends the command with ExitCode.INTERRUPTED, and not the job. Raises errors.FedloomError.
    """
    if job_id is None:
        job_id = client.start_verification(campaign.id, None if only is None else [only]).id
    console = output.console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task("verifying rounds", total=None)

        shown_reasons: list[str] = []

        def show_progress(job: VerificationView) -> None:
            progress.update(task, total=job.n_rounds, completed=job.n_done)
            if job.reason is not None and job.reason not in shown_reasons:
                shown_reasons.append(job.reason)
                output.say(f"{campaign.name}: {visible_line(job.reason)}", err=True)

        try:
            return client.wait_for_verification(campaign.id, job_id, on_progress=show_progress)
        except KeyboardInterrupt:
            progress.stop()
            output.say("stopped waiting; the coordinator continues the verification; read it with:", err=True)
            output.say(f"  fedloom campaign verify {campaign.name} --job {job_id}", err=True)
            sys.exit(ExitCode.INTERRUPTED)


def is_wrong(job: VerificationDetail) -> bool:
    """Whether a round differs, is corrupt or could not be verified, or the job was cancelled. A round that is not kept
    is not wrong."""
    wrong = any(one.outcome in (Outcome.DIFFERS, Outcome.CORRUPT, Outcome.FAILED) for one in job.outcomes)
    return wrong or job.state is VerificationState.CANCELLED


def show(job: VerificationDetail) -> None:
    """Print a line for each round, and a summary."""
    output.console().print(_table(job.outcomes))
    n = {outcome: sum(one.outcome is outcome for one in job.outcomes) for outcome in Outcome}
    wrong = n[Outcome.DIFFERS] + n[Outcome.CORRUPT]
    rolled_back = f", {n[Outcome.ROLLED_BACK]} rolled back" if n[Outcome.ROLLED_BACK] else ""
    failed = f", {n[Outcome.FAILED]} failed" if n[Outcome.FAILED] else ""
    output.say(f"\n{n[Outcome.VERIFIED]} verified, {n[Outcome.NOT_KEPT]} not kept{rolled_back}{failed}, {wrong} wrong")
    if job.state is VerificationState.CANCELLED:
        output.say(f"cancelled after {job.n_done} of {job.n_rounds} rounds")
    if wrong:
        output.say("go back to one that is right with: fedloom campaign rollback")


def _table(outcomes: Sequence[RoundVerification]) -> Table:
    table = output.table("ROUND", "OUTCOME", "ADAPTER", "REASON", right=["ROUND"], fold=["REASON"])
    for one in outcomes:
        outcome = Text(one.outcome, style=_COLOURS[one.outcome])
        table.add_row(str(one.round), outcome, one.adapter_sha256[:12], one.reason or "")
    return table
