"""``fedloom agent enroll``, ``run``, ``rotate-secret``: commands on the data owner's machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli import output
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

Home = Annotated[
    Path,
    typer.Option(
        "--home", envvar="FEDLOOM_AGENT_HOME", help="The agent's folder, with its settings, identity and caches."
    ),
]
DEFAULT_HOME = Path("fedloom-agent")


def enroll(
    coordinator: Annotated[str, typer.Option(metavar="URL", help="The coordinator's address.")],
    token: Annotated[str, typer.Option(envvar="FEDLOOM_TOKEN", help="The one-time token from the operator.")],
    home: Home = DEFAULT_HOME,
    name: Annotated[str | None, typer.Option(help="Name of this agent; by default the host's name.")] = None,
    ca_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A CA to trust instead of the system's (PEM).")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http:// to another host.")] = False,
    as_json: AsJson = False,
) -> None:
    """Enrol this machine as an agent, with a one-time token. Writes the agent's identity and example settings.

    Example: fedloom agent enroll --coordinator https://HOST:8470 --token TOKEN
    """
    from agent import main

    with agent_errors_reported():
        identity = main.enroll(
            home, coordinator.rstrip("/"), token, name or main.default_name(), ca_file=ca_file, insecure=insecure
        )
    if as_json:
        output.print_json({"agent_id": identity.agent_id, "name": identity.name, "home": str(home)})
        return
    typer.echo(f"enrolled as {identity.name}. Name your data in {home / 'agent.toml'}, then run:")
    typer.echo("  fedloom agent run" + (f" --home {home}" if home != DEFAULT_HOME else ""))


def run(home: Home = DEFAULT_HOME) -> None:
    """Run the agent until interrupted. Needs the extra `agent`."""
    from agent import main

    main.log_to_stderr()
    with agent_errors_reported():
        main.run(home)


def rotate_secret(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Replace the secret of a stopped agent; the old one stops working at once."""
    from agent import main

    with agent_errors_reported():
        main.rotate_secret(home)
    if as_json:
        output.print_json({"home": str(home), "rotated": True})
    else:
        typer.echo("the agent has a new secret")


@contextmanager
def agent_errors_reported() -> Iterator[None]:
    """Print an agent's error in one line, and exit with its code."""
    from agent import errors

    try:
        yield
    except errors.AgentError as error:
        typer.echo(f"fedloom: {error}", err=True)
        code = ExitCode.FAILED
        if isinstance(error, errors.CoordinatorUnreachable):
            code = ExitCode.UNREACHABLE
        elif isinstance(error, errors.CoordinatorRefused) and error.problem.status in (401, 403):
            code = ExitCode.NOT_ALLOWED
        elif isinstance(error, errors.InsecureCoordinator | errors.SettingsError):
            code = ExitCode.USAGE
        raise typer.Exit(code) from error
