"""The ``fedloom`` command. Each group of commands is one module; what is slow to import waits for the command that
needs it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.agent import commands as agent_commands
from fedloom.cli.agent import registry as agent_registry
from fedloom.cli.campaign import commands as campaign_commands
from fedloom.cli.connection import Connection
from fedloom.cli.coordinator import algorithm, storage, token
from fedloom.cli.coordinator import commands as coordinator_commands
from fedloom.cli.data import check as check_data
from fedloom.cli.failures import tell
from fedloom.cli.local import adapter, chat, merge
from fedloom.cli.simulation import compare, simulate
from fedloom.errors import FedloomError

EPILOG = (
    "Exit codes: 0 done; 1 failed or refused; 2 wrong usage or an invalid file; 3 the coordinator cannot be reached; "
    "4 not authenticated or not allowed; 5 not found."
)

COORDINATOR_NEEDS = ("aiosqlite", "alembic", "asyncpg", "fastapi", "pydantic_settings", "sqlalchemy", "uvicorn")
"""What the extra ``coordinator`` installs; the other commands do without."""

app = typer.Typer(
    name="fedloom",
    help="Fine-tune a language model together, on data that never leaves its owners.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(campaign_commands.app, name="campaign")
adapter.app.command()(merge.merge)
app.add_typer(adapter.app, name="adapter")
for command in (agent_commands.enroll, agent_commands.run, agent_commands.rotate_secret, check_data.check_data):
    agent_registry.app.command()(command)
app.add_typer(agent_registry.app, name="agent")
app.add_typer(token.app, name="token")
app.add_typer(algorithm.app, name="algorithm")
app.add_typer(coordinator_commands.app, name="coordinator")
app.command("chat")(chat.chat)
app.command("simulate")(simulate.simulate)
app.command("compare")(compare.compare)
app.command("storage")(storage.storage)


def _version(wanted: bool) -> None:
    if wanted:
        import fedloom

        typer.echo(f"fedloom {fedloom.__version__}")
        raise typer.Exit


@app.callback()
def connection(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="FEDLOOM_URL", help="The coordinator's address, by default http://127.0.0.1:8470."),
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="FEDLOOM_KEY", help="The operator's key.")] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="FEDLOOM_CA_FILE", exists=True, dir_okay=False, help="A CA to trust instead of the usual ones."
        ),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http:// to another host.")] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = Connection(url=url, key=key, ca_file=ca_file, insecure=insecure)


def main() -> None:
    """Run the command line. What goes wrong is told in a line, and by the exit code."""
    try:
        app(prog_name="fedloom")
    except (FedloomError, OSError) as error:
        sys.exit(tell(error))
    except ModuleNotFoundError as error:
        if error.name not in COORDINATOR_NEEDS:
            raise
        sys.exit(tell(FedloomError(f"{error.name} is not installed; run: pip install 'fedloom[coordinator]'")))
