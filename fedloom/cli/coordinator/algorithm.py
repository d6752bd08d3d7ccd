"""``fedloom algorithm``: the federated algorithms that the coordinator offers."""

from typing import Annotated, Any

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

app = typer.Typer(help="Show the federated algorithms that campaigns can use.", no_args_is_help=True)


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the algorithms that the coordinator offers."""
    with connect(ctx) as client:
        algorithms = list(client.algorithms())
    if as_json:
        output.print_json(algorithms)
        return
    table = output.table("NAME", "SUMMARY", fold=["SUMMARY"])
    for algorithm in algorithms:
        title, _, rest = algorithm.summary.partition(": ")
        table.add_row(algorithm.name, rest if title.lower() == algorithm.name else algorithm.summary)
    output.console().print(table)


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The algorithm's name, such as fedadam.")],
    as_json: AsJson = False,
) -> None:
    """Show an algorithm's parameters, and what it sends and stores besides adapters and deltas."""
    from fedloom.reference.schema_text import describe, yaml_literal

    with connect(ctx) as client:
        algorithms = {algorithm.name: algorithm for algorithm in client.algorithms()}
    algorithm = algorithms.get(name)
    if algorithm is None:
        output.say(f"fedloom: unknown algorithm {name!r}; choose one of {', '.join(sorted(algorithms))}", err=True)
        raise typer.Exit(ExitCode.NOT_FOUND)
    if as_json:
        output.print_json(algorithm)
        return
    console = output.console()
    console.print(algorithm.summary)
    console.print()
    slots = {
        "stored by the coordinator": algorithm.state,
        "sent to clients with the adapter": algorithm.broadcast,
        "sent by clients with the delta": algorithm.extras,
        "stored by clients, never sent": algorithm.client_state,
    }
    facts = output.table("", "", fold=[""])
    facts.show_header = False
    for place, names in slots.items():
        if names:
            facts.add_row(place, ", ".join(names))
    if algorithm.mixes_ranks:
        facts.add_row("ranks", "an agent may train a smaller rank than the campaign's (compute.max_lora_rank)")
    if algorithm.needs_exact_updates:
        facts.add_row("updates", "sent exactly: a campaign's wire must be float32")
    if facts.row_count:
        console.print(facts)
    else:
        console.print("It sends only adapters and deltas, and stores nothing between rounds.")
    console.print()
    parameters: dict[str, dict[str, Any]] = algorithm.params_schema.get("properties", {})
    if not parameters:
        console.print("It has no parameters.")
        return
    table = output.table("PARAMETER", "DEFAULT", "ALLOWED", "MEANING", fold=["MEANING"])
    definitions = algorithm.params_schema.get("$defs", {})
    defaults = {key: yaml_literal(schema["default"]) for key, schema in parameters.items() if "default" in schema}
    for key, schema in parameters.items():
        allowed = describe(schema, definitions).replace("`", "").removeprefix("number, ")
        table.add_row(key, defaults.get(key, "required"), allowed, schema.get("description", ""))
    console.print(table)
    console.print("\nIn a campaign file:")
    params = ", ".join(f"{key}: {value}" for key, value in defaults.items())
    console.print(f"  algorithm: {{name: {algorithm.name}, params: {{{params}}}}}", soft_wrap=True)
