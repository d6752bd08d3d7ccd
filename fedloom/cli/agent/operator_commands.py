"""``fedloom agent list``, ``show``, ``revoke``: the operator's commands on enrolled agents."""

from typing import Annotated

import typer

from fedloom.cli import output
from fedloom.cli.connection import connect
from fedloom.cli.filters import Labels, Since, Until, read_labels
from fedloom.cli.output import AsJson
from shared.states import AgentState

IdOrName = Annotated[str, typer.Argument(metavar="AGENT", help="Agent id or name.")]


def list_(
    ctx: typer.Context,
    state: Annotated[AgentState | None, typer.Option(help="Only agents in this state.")] = None,
    name: Annotated[str | None, typer.Option(help="Only agents of this name.")] = None,
    label: Labels = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """List enrolled agents. Times are those of enrolment.

    Example: fedloom agent list --state active --label site=north
    """
    labels = read_labels(label)
    with connect(ctx) as client:
        agents = list(client.agents(state=state, name=name, labels=labels, since=since, until=until))
    if as_json:
        output.print_json(agents)
        return
    if not agents:
        filtered = any((state, name, labels, since, until))
        output.say("no such agents" if filtered else "no agents; create a token for one with: fedloom token create")
        return
    table = output.table("NAME", "STATE", "SEEN", "WORKING", "VERSION", "LABELS", fold=["NAME", "VERSION", "LABELS"])
    for agent in agents:
        working = "yes" if agent.current_task_id else "no"
        seen = output.ago(agent.last_seen_at)
        table.add_row(agent.name, output.presence(agent), seen, working, agent.version, output.labels(agent.labels))
    output.console().print(table)


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
    table.add_row("state", output.presence(view))
    table.add_row("id", view.id)
    table.add_row("labels", output.labels(view.labels) or "none")
    table.add_row("version", view.version)
    table.add_row("enrolled", output.ago(view.created_at))
    table.add_row("seen", output.ago(view.last_seen_at))
    table.add_row("task", view.current_task_id or "none")
    output.console().print(table)


def revoke(ctx: typer.Context, agent: IdOrName, as_json: AsJson = False) -> None:
    """Revoke an agent's access for good. It can come back only by enrolling with a new token."""
    with connect(ctx) as client:
        view = client.revoke_agent(agent)
    if as_json:
        output.print_json(view)
    else:
        output.say(f"agent {view.name} is {view.state}")
