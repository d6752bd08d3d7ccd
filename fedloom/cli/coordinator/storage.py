"""``fedloom storage``: what the coordinator keeps."""

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.output import AsJson


def storage(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show how many bytes the coordinator keeps, and of what."""
    with connect(ctx) as client:
        found = client.storage()
    if as_json:
        output.print_json(found)
        return
    table = output.table("KIND", "BYTES", right=["BYTES"])
    for kind, n_bytes in sorted(found.bytes_by_kind.items()):
        table.add_row(kind.replace("_", " "), output.size(n_bytes))
    table.add_row(f"all {found.n_blobs} blobs", output.size(found.n_bytes), style="bold")
    if found.free_bytes is not None:
        table.add_row("free", output.size(found.free_bytes))
    output.console().print(table)
