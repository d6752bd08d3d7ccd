"""``fedloom agent report``: what a campaign gains its owner, on the owner's own held-out rows."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import Named, find, open_home
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.errors import InvalidOption
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from agent.orders.protocol import ChildProgress
    from agent.record.gains import Gain
    from agent.report.child import OnProgress
    from agent.report.report import OnStep, OwnReport
    from agent.report.subject import Subject

_ROWS, _TOKENS = 100, 64


def report(
    campaign: Named,
    alone: Annotated[
        bool,
        typer.Option(
            "--alone",
            help="Train a model on your rows alone, with as many rounds and steps as you took part in, unless that was "
            "done before. It takes as long as your part in the campaign; a stopped one goes on.",
        ),
    ] = False,
    adapters: Annotated[
        list[int] | None,
        typer.Option("--adapter", metavar="NUMBER", min=0, help="Only this adapter. May be repeated."),
    ] = None,
    folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--folder",
            exists=True,
            file_okay=False,
            help="A folder of `fedloom agent pull` with a further adapter. May be repeated.",
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=1, help="Most held-out rows to answer; the losses are of all.")
    ] = _ROWS,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Most tokens of an answer.")] = _TOKENS,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="Your own metric: a function of question, expected answer and answer that returns a number; more is "
            "better. The file stays here.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE.html", help="Write one page too, which only you can read. It holds rows."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show what you gain from a campaign, on your own held-out rows.

    Compares the base model, a model trained on your rows alone (--alone) and
    the campaign's adapters on this machine: losses, exact answers, and ten
    answers side by side. Nothing goes over the network, unless report_gain in
    agent.toml lets three rounded losses of each adapter out. Works beside a
    running agent, without one, and after the campaign's end.

    Example: fedloom agent report clinic-notes --alone -o gain.html
    """
    from agent.report.subject import Subject
    from fedloom.cli.agent.report.document import document_of
    from fedloom.cli.agent.report.numbers import numbers_of
    from fedloom.cli.agent.report.own_metric import read_metric
    from fedloom.cli.agent.report.terminal import print_report

    make_files_private()
    if out is not None:
        _check_out(out, force=force)
    own_metric = read_metric(metric) if metric is not None else None
    owners = open_home(home)
    owners.record.gains.drop_unsent()
    known = find(owners.record, campaign)
    subject = Subject.of(owners.workspace, owners.identity, owners.settings, known)
    try:
        found = _made(subject, rows, max_new_tokens, adapters or [], folders or [], alone=alone)
    except KeyboardInterrupt:
        goes_on = "; the same command goes on with the training alone" if alone else ""
        output.say(f"stopped{goes_on}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    numbers = numbers_of(found, own_metric)
    if out is not None:
        from fedloom.cli.agent.report.page import page

        _write(out, page(numbers, max_new_tokens, datetime.now().astimezone()), force=force)
    sent, not_sent = _told(found)
    if as_json:
        told = [each for each in owners.record.gains.of_campaign(known.id) if each.sent_at is not None]
        output.print_json(document_of(numbers, sent, not_sent, told))
    else:
        print_report(output.console(), numbers, max_new_tokens)
        _say_sent(subject, sent, not_sent)
    if out is not None:
        output.say(f"wrote {out}. It holds rows: keep it to yourself", err=True)


def _made(
    subject: "Subject", rows: int, max_new_tokens: int, numbers: list[int], folders: list[Path], *, alone: bool
) -> "OwnReport":
    from agent.report.measuring import Asking
    from agent.report.report import Wanted, make_report

    wanted = Wanted(Asking(rows, max_new_tokens), numbers, folders, trains_alone=alone)
    with _steps() as on_step:
        return make_report(subject, wanted, on_step)


@contextmanager
def _steps() -> "Iterator[OnStep]":
    """Show each step and its progress on stderr: in place on a terminal, otherwise a line a step."""
    from rich.text import Text

    from fedloom.cli.adapter.local_child import progress_text

    console = output.console(stderr=True)
    with console.status(Text("starting")) as status:

        def on_step(step: str) -> "OnProgress":
            if not console.is_terminal:
                output.say(f"{step} …", err=True)

            def on_progress(progress: "ChildProgress") -> None:
                status.update(Text(f"{step}: {progress_text(progress)}"))

            return on_progress

        yield on_step


def _told(found: "OwnReport") -> "tuple[list[Gain], str]":
    """Tell the operator what may be told. Returns what was, and why the rest was not."""
    from agent.report.gains import gains_of, send

    gains, why_none = gains_of(found)
    if not gains:
        return [], why_none
    record = found.subject.workspace.record.gains
    record.note(gains)
    sent, problem = asyncio.run(send(found.subject, gains))
    record.drop_unsent()
    return sent, problem


def _say_sent(subject: "Subject", sent: "list[Gain]", not_sent: str) -> None:
    output.say()
    for gain in sent:
        losses = ", ".join(f"{each:g}" for each in (gain.base, gain.alone, gain.loss))
        output.say(f"sent of adapter {gain.number}: {losses} (losses of base, alone and adapter; policy.report_gain)")
    told = subject.workspace.record.gains.of_campaign(subject.known.id)
    earlier = [each for each in told if each.sent_at is not None]
    if not sent and not subject.settings.policy.report_gain:
        before = f"; an earlier report sent the numbers of adapter {_numbers(earlier)}" if earlier else ""
        output.say(f"nothing was sent{before}")
    elif not_sent:
        output.say(f"{'not all' if sent else 'nothing'} was sent: {visible_line(not_sent)}", err=True)


def _numbers(gains: "list[Gain]") -> str:
    return ", ".join(str(each.number) for each in gains)


def _check_out(out: Path, *, force: bool) -> None:
    """Raise InvalidOption, before anything is computed, if the page cannot be written."""
    if out.exists() and not out.is_file():
        raise InvalidOption(f"{out} is not a file")
    if out.exists() and not force:
        raise InvalidOption(f"{out} exists; --force replaces it")
    if not out.absolute().parent.is_dir():
        raise InvalidOption(f"there is no folder {out.absolute().parent}")


def _write(out: Path, page: str, *, force: bool) -> None:
    from shared.system.durable import atomic_write

    try:
        with atomic_write(out, mode=0o600, replace=force) as file:
            file.write(page.encode())
    except FileExistsError as error:
        raise InvalidOption(f"{out} exists; --force replaces it") from error
