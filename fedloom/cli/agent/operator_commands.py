"""``fedloom agent``: the agents that are enrolled."""

from typing import Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.output import AsJson

app = typer.Typer(help="Run an agent, and manage those that are enrolled.", no_args_is_help=True)

IdOrName = Annotated[str, typer.Argument(metavar="AGENT", help="Its id or its name.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List enrolled agents."""
    with connect(ctx) as client:
        agents = list(client.agents())
    if as_json:
        output.print_json(agents)
        return
    if not agents:
        typer.echo("no agents; make a token for one with: fedloom token create")
        return
    table = output.table("NAME", "STATE", "SEEN", "AT WORK", "VERSION", "LABELS", fold=["NAME", "LABELS"])
    for one in agents:
        at_work = "yes" if one.current_task_id else "no"
        seen = output.ago(one.last_seen_at)
        table.add_row(one.name, output.state(one.state), seen, at_work, one.version, output.labels(one.labels))
    output.console().print(table)


@app.command()
def show(ctx: typer.Context, agent: IdOrName, as_json: AsJson = False) -> None:
    """Show one agent."""
    with connect(ctx) as client:
        found = client.agent(agent)
    if as_json:
        output.print_json(found)
        return
    table = output.table("", "", fold=[""])
    table.show_header = False
    table.add_row("name", found.name)
    table.add_row("state", output.state(found.state))
    table.add_row("id", found.id)
    table.add_row("labels", output.labels(found.labels) or "none")
    table.add_row("version", found.version)
    table.add_row("enrolled", output.ago(found.created_at))
    table.add_row("seen", output.ago(found.last_seen_at))
    table.add_row("task", found.current_task_id or "none")
    output.console().print(table)


@app.command()
def revoke(ctx: typer.Context, agent: IdOrName, as_json: AsJson = False) -> None:
    """Shut an agent out for good; to come back it enrols with a new token."""
    with connect(ctx) as client:
        found = client.revoke_agent(agent)
    if as_json:
        output.print_json(found)
    else:
        typer.echo(f"agent {found.name} is {found.state}")
