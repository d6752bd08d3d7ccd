"""``fedloom agent ledger``: what left this machine, and whether the ledger of it is whole."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import find
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.agent.words.ledger import in_words
from fedloom.cli.campaign.export_file import opened
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.exporting.csv_table import write_csv
from fedloom.exporting.export_options import Format
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from agent.ledger.entries import Entry
    from agent.ledger.summary import Outflow
    from agent.workspace import Workspace

app = typer.Typer(help="What left this machine: every request, before it was sent.", no_args_is_help=True)

_COLUMNS: tuple[str, ...] = (
    *("n", "at", "kind", "purpose", "method", "path", "campaign"),
    *("opened", "count", "first", "last", "bytes", "sha256", "headers", "body"),
)

OfCampaign = Annotated[
    str | None,
    typer.Option("--campaign", metavar="CAMPAIGN", help="Only what is about it: its digest, id or name."),
]


@app.command()
def show(
    campaign: OfCampaign = None,
    kind: Annotated[str | None, typer.Option(help="Only requests of this kind, such as result or renewal.")] = None,
    entries: Annotated[bool, typer.Option("--entries", "-e", help="List each entry, with its body.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Add up what left, by campaign and by kind of request.

    Requests that are about no single campaign, such as enrolment and polls
    for work, are listed by themselves.

    Example: fedloom agent ledger show --campaign clinic-notes --entries
    """
    from agent.ledger.summary import outflows

    workspace = _opened(home)
    about = find(workspace.record, campaign).id if campaign is not None else None
    chosen = _chosen(workspace, about, kind)
    if entries:
        _print_entries(chosen, as_json=as_json)
        return
    found = outflows(chosen)
    if as_json:
        output.print_json({"outflows": [_as_json(each, outflow) for each, outflow in found.items()]})
        return
    if not found:
        output.say("nothing was sent" if campaign is None and kind is None else "nothing of this was sent")
        return
    names = {known.id: known.name for known in workspace.record.campaigns.all()}
    for each, outflow in sorted(found.items(), key=lambda pair: pair[0] or ""):
        _print_outflow(each, names.get(each or ""), outflow)


@app.command()
def verify(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Check that no entry was cut, edited, moved or repeated. The exit code is 1 if one was.

    The entries hang together by digests, and the record of work names some of
    them. Note the last digest elsewhere: who has it can tell later that
    nothing before it was changed, even if all files of this folder were.
    """
    from agent.ledger.verification import MAX_PROBLEMS
    from agent.ledger.verification import verify as verify_ledger

    workspace = _opened(home)
    found = verify_ledger(workspace.ledger.files, workspace.record.bookings.anchors())
    if as_json:
        output.print_json(
            {"whole": found.is_whole, "entries": found.n_entries, "first": found.first}
            | {"last": found.head.n, "sha256": found.head.sha256, "problems": found.problems}
        )
    else:
        for problem in found.problems[:MAX_PROBLEMS]:
            output.say(problem, err=True)
        if (more := len(found.problems) - MAX_PROBLEMS) > 0:
            output.say(f"and {more} more", err=True)
        _say_range(found.n_entries, found.first, found.head.n, found.head.sha256, is_whole=found.is_whole)
    if not found.is_whole:
        raise typer.Exit(ExitCode.FAILED)


def _say_range(n_entries: int, first: int, last: int, sha256: str, *, is_whole: bool) -> None:
    if n_entries == 0:
        output.say("the ledger is empty: nothing was sent")
        return
    what = "whole" if is_whole else "not whole"
    output.say(f"the ledger is {what}: {n_entries:,} entries, from {first} to {last}; the last one has the digest")
    output.say(sha256)
    if first > 1 and is_whole:
        output.say(f"entries 1 to {first - 1} are kept elsewhere, or were deleted")


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="The file; without one, standard output.")] = None,
    campaign: OfCampaign = None,
    format_: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.CSV,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Write the entries to a file, as a table or as JSON lines.

    The JSON lines of all entries are those of the ledger itself, so an auditor
    can check the chain: each names the SHA-256 of the line before.

    Example: fedloom agent ledger export sent.csv --campaign clinic-notes
    """
    workspace = _opened(home)
    about = find(workspace.record, campaign).id if campaign is not None else None
    with opened(file, force=force) as text:
        if format_ is Format.CSV:
            write_csv(text, _COLUMNS, map(_row, _chosen(workspace, about, None)))
        elif about is None:
            for _, _, line in workspace.ledger.files.lines():
                text.write(line.decode(errors="backslashreplace"))  # as they are: a digest is of these bytes
        else:
            for entry in _chosen(workspace, about, None):
                text.write(entry.model_dump_json() + "\n")
    if file is not None:
        output.say(f"wrote {file}", err=True)


def _opened(home: Path) -> "Workspace":
    """The home of an agent, whatever its settings are: they say nothing of what left. Raises NotEnrolled and
    RecordUnusable."""
    from agent.errors import NotEnrolled
    from agent.workspace import Workspace

    make_files_private()
    workspace = Workspace(home)
    if not workspace.record.exists:
        raise NotEnrolled(home)
    workspace.record.check()
    return workspace


def _chosen(workspace: "Workspace", campaign: str | None, kind: str | None) -> "Iterator[Entry]":
    """The entries about a campaign and of a kind; None for all. The end of a run is of the kind of its beginning."""
    from agent.ledger.entries import PollsClosed, PollsOpened
    from agent.ledger.files import entries

    runs: dict[int, str] = {}
    for entry, _ in entries(workspace.ledger.files):
        says = entry.says
        if isinstance(says, PollsOpened):
            runs[entry.n] = says.purpose
        purpose = runs.pop(says.opened, "") if isinstance(says, PollsClosed) else says.purpose
        about = None if isinstance(says, PollsClosed) else says.campaign
        if campaign in (None, about) and kind in (None, purpose):
            yield entry


def _row(entry: "Entry") -> dict[str, Any]:
    return {"n": entry.n, "at": entry.at, **entry.says.model_dump()}


def _as_json(campaign: str | None, outflow: "Outflow") -> dict[str, Any]:
    kinds = {
        purpose: {"requests": outflow.requests[purpose], "bytes": outflow.bytes[purpose]}
        for purpose in outflow.requests
    }
    files = [{"kind": kind, "sha256": sha256, "bytes": size} for (kind, sha256), size in outflow.files.items()]
    numbers = {
        "losses": outflow.n_losses,
        "other_numbers": outflow.n_numbers,
        "benchmark_values": outflow.n_benchmarks,
        "texts": outflow.texts,
    }
    return {"campaign": campaign, "kinds": kinds, "files": files, **numbers, "unknown_runs": outflow.unknown_runs}


def _print_outflow(campaign: str | None, name: str | None, outflow: "Outflow") -> None:
    title = f"campaign {visible_line(name)} ({campaign})" if name else f"campaign {campaign}"
    output.say(f"{title if campaign else 'no single campaign'}: {in_words(outflow)}")
    table = output.table("KIND", "REQUESTS", "BYTES", right=["REQUESTS", "BYTES"])
    for purpose, count in sorted(outflow.requests.items()):
        table.add_row(f"  {purpose}", f"{count:,}", output.size(outflow.bytes[purpose]))
    output.console().print(table)


def _print_entries(chosen: "Iterable[Entry]", *, as_json: bool) -> None:
    if as_json:
        output.print_json(chosen)
        return
    for entry in chosen:
        says = entry.says.model_dump(mode="json", exclude={"kind", "sha256"}, exclude_none=True)
        facts = " ".join(f"{name}={_text(value)}" for name, value in says.items() if value not in ({}, ""))
        output.say(visible_line(f"{entry.n} {entry.at:%Y-%m-%d %H:%M:%S} {entry.says.kind} {facts}"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
