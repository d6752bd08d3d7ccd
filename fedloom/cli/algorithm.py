"""``fedloom algorithm``: the federated algorithms that campaigns can name."""

from typing import Any

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

app = typer.Typer(help="The federated algorithms that campaigns can name.", no_args_is_help=True)


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the coordinator's algorithms."""
    with connect(ctx) as client:
        algorithms = list(client.algorithms())
    if as_json:
        output.print_json(algorithms)
        return
    table = output.table("NAME", "SUMMARY", fold=["SUMMARY"])
    for one in algorithms:
        table.add_row(one.name, one.summary)
    output.console().print(table)


@app.command()
def show(ctx: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Show an algorithm's parameters and what travels with its updates."""
    with connect(ctx) as client:
        algorithms = {one.name: one for one in client.algorithms()}
    found = algorithms.get(name)
    if found is None:
        typer.echo(f"fedloom: unknown algorithm {name!r}; known are {', '.join(sorted(algorithms))}", err=True)
        raise typer.Exit(ExitCode.NOT_FOUND)
    if as_json:
        output.print_json(found)
        return
    console = output.console()
    console.print(found.summary)
    facts = output.table("", "", fold=[""])
    facts.show_header = False
    facts.add_row("kept by the coordinator", ", ".join(found.state) or "nothing")
    facts.add_row("sent to clients beside the adapter", ", ".join(found.broadcast) or "nothing")
    facts.add_row("sent by clients beside the delta", ", ".join(found.extras) or "nothing")
    facts.add_row("kept by clients, and never sent", ", ".join(found.kept) or "nothing")
    console.print(facts)
    console.print()
    parameters: dict[str, dict[str, Any]] = found.params_schema.get("properties", {})
    if not parameters:
        console.print("It has no parameters.")
        return
    table = output.table("PARAMETER", "DEFAULT", "MEANING", fold=["MEANING"])
    for key, schema in parameters.items():
        table.add_row(key, str(schema.get("default", "needed")), schema.get("description", ""))
    console.print(table)
