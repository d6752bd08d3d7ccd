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
        title, _, rest = one.summary.partition(": ")
        table.add_row(one.name, rest if title.lower() == one.name else one.summary)
    output.console().print(table)


@app.command()
def show(ctx: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Show an algorithm's parameters and what travels with its updates."""
    from fedloom.reference.schema_text import literal, words

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
    console.print()
    slots = {
        "kept by the coordinator": found.state,
        "sent to clients beside the adapter": found.broadcast,
        "sent by clients beside the delta": found.extras,
        "kept by clients, and never sent": found.client_state,
    }
    facts = output.table("", "", fold=[""])
    facts.show_header = False
    for what, names in slots.items():
        if names:
            facts.add_row(what, ", ".join(names))
    if facts.row_count:
        console.print(facts)
    else:
        console.print("Nothing is sent but adapters and deltas, and nothing is kept between rounds.")
    console.print()
    parameters: dict[str, dict[str, Any]] = found.params_schema.get("properties", {})
    if not parameters:
        console.print("It has no parameters.")
        return
    table = output.table("PARAMETER", "DEFAULT", "ALLOWED", "MEANING", fold=["MEANING"])
    definitions = found.params_schema.get("$defs", {})
    defaults = {key: literal(schema["default"]) for key, schema in parameters.items() if "default" in schema}
    for key, schema in parameters.items():
        allowed = words(schema, definitions).replace("`", "").removeprefix("number, ")
        table.add_row(key, defaults.get(key, "needed"), allowed, schema.get("description", ""))
    console.print(table)
    console.print("\nIn a campaign file:")
    params = ", ".join(f"{key}: {value}" for key, value in defaults.items())
    console.print(f"  algorithm: {{name: {found.name}, params: {{{params}}}}}", soft_wrap=True)
