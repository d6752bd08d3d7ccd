"""``fedloom agent rows``: which rows of the data are held out."""

from typing import Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.data.check import DataName, source_of
from fedloom.cli.output import AsJson


def rows(
    name: DataName,
    kind: Annotated[
        str | None, typer.Option(help="The kind of training whose rows to read; by default what the columns fit.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """List the rows that are held out: they are evaluated on, and never trained on.

    A row is held out by its own text, so the list stays as it is when rows
    are added. Nothing leaves this machine, and no row is quoted.

    Example: fedloom agent rows notes
    """
    from agent.data.checks.checking import guess_kind
    from agent.data.reading import read_split
    from agent.errors import TaskFailed
    from agent.installed import load_kind
    from fedloom.errors import InvalidOption

    source = source_of(name, home)
    try:
        split = read_split(source, load_kind(kind) if kind is not None else guess_kind(source))
    except TaskFailed as error:
        raise InvalidOption(str(error)) from error
    if as_json:
        held_out = [{"file": row.label, "place": row.place} for row in split.held_out]
        output.print_json({"data": name, "train": len(split.train), "held_out": held_out})
        return
    n_rows = len(split.train) + len(split.held_out)
    why = "the file held_out_path" if source.held_out_path is not None else f"held_out = {source.held_out:g}"
    output.say(f"{name}: {len(split.held_out):,} of {n_rows:,} rows are held out, by {why}")
    for row in split.held_out:
        output.say(f"  {row.where}")
