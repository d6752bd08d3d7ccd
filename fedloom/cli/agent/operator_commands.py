"""``fedloom agent list``, ``show``, ``revoke``: the operator's commands on enrolled agents."""

from typing import Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.output import AsJson

app = typer.Typer(help="Run an agent; list, show and revoke enrolled agents.", no_args_is_help=True)

IdOrName = Annotated[str, typer.Argument(metavar="AGENT", help="Agent id or name.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List enrolled agents."""
    with connect(ctx) as client:
        agents = list(client.agents())
    if as_json:
        output.print_json(agents)
        return
    if not agents:
        typer.echo("no agents; create a token for one with: fedloom token create")
        return
    table = output.table("NAME", "STATE", "SEEN", "WORKING", "VERSION", "LABELS", fold=["NAME", "LABELS"])
    for agent in agents:
        working = "yes" if agent.current_task_id else "no"
        seen = output.ago(agent.last_seen_at)
        table.add_row(agent.name, output.state(agent.state), seen, working, agent.version, output.labels(agent.labels))
    output.console().print(table)


@app.command()
def show(ctx: typer.Context, agent: IdOrName, as_json: AsJson = False) -> None:
    """Show one agent."""
    with connect(ctx) as client:
        view = client.agent(agent)
    if as_json:
        output.print_json(view)
        return
    table = output.table("", "", fold=[""])
    table.show_header = False
    table.add_row("name", view.name)
    table.add_row("state", output.state(view.state))
    table.add_row("id", view.id)
    table.add_row("labels", output.labels(view.labels) or "none")
    table.add_row("version", view.version)
    table.add_row("enrolled", output.ago(view.created_at))
    table.add_row("seen", output.ago(view.last_seen_at))
    table.add_row("task", view.current_task_id or "none")
    output.console().print(table)


@app.command()
def revoke(ctx: typer.Context, agent: IdOrName, as_json: AsJson = False) -> None:
    """Revoke an agent's access for good. It can come back only by enrolling with a new token."""
    with connect(ctx) as client:
        view = client.revoke_agent(agent)
    if as_json:
        output.print_json(view)
    else:
        typer.echo(f"agent {view.name} is {view.state}")
