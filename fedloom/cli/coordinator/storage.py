"""``fedloom storage``: what the coordinator stores."""

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.output import AsJson


def storage(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show how many bytes the coordinator stores, by kind."""
    with connect(ctx) as client:
        usage = client.storage()
    if as_json:
        output.print_json(usage)
        return
    table = output.table("KIND", "BYTES", right=["BYTES"])
    for kind, n_bytes in sorted(usage.bytes_by_kind.items()):
        table.add_row(kind.replace("_", " "), output.size(n_bytes))
    n_blobs = f"{usage.n_blobs} blob{'' if usage.n_blobs == 1 else 's'}"
    table.add_row(f"total ({n_blobs})", output.size(usage.n_bytes), style="bold")
    if usage.free_bytes is not None:
        table.add_row("free on disk", output.size(usage.free_bytes))
    output.console().print(table)
