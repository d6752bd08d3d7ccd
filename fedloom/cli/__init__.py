"""The ``fedloom`` command. Each group of commands is one package; a command imports slow modules only when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.adapter import commands as adapter_commands
from fedloom.cli.adapter import merge
from fedloom.cli.agent import operator_commands as agent_commands
from fedloom.cli.agent import owner_commands
from fedloom.cli.campaign import commands as campaign_commands
from fedloom.cli.chat import command as chat
from fedloom.cli.connection import Connection
from fedloom.cli.coordinator import algorithm, storage, token
from fedloom.cli.coordinator import commands as coordinator_commands
from fedloom.cli.data import check as check_data
from fedloom.cli.failures import report
from fedloom.cli.simulation import compare, simulate
from fedloom.errors import FedloomError

EPILOG = (
    "Exit codes: 0 done; 1 failed or refused; 2 wrong usage or an invalid file; 3 the coordinator cannot be reached; "
    "4 not authenticated or not allowed; 5 not found."
)

COORDINATOR_NEEDS = ("aiosqlite", "alembic", "asyncpg", "fastapi", "pydantic_settings", "sqlalchemy", "uvicorn")
"""Modules of the extra ``coordinator``; the other commands do not need them."""

app = typer.Typer(
    name="fedloom",
    help="Fine-tune a language model together, on data that never leaves its owners.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(campaign_commands.app, name="campaign")
adapter_commands.app.command()(merge.merge)
app.add_typer(adapter_commands.app, name="adapter")
for command in (owner_commands.enroll, owner_commands.run, owner_commands.rotate_secret, check_data.check_data):
    agent_commands.app.command()(command)
app.add_typer(agent_commands.app, name="agent")
app.add_typer(token.app, name="token")
app.add_typer(algorithm.app, name="algorithm")
app.add_typer(coordinator_commands.app, name="coordinator")
app.command("chat")(chat.chat)
app.command("simulate")(simulate.simulate)
app.command("compare")(compare.compare)
app.command("storage")(storage.storage)


def _version(requested: bool) -> None:
    if requested:
        import fedloom

        typer.echo(f"fedloom {fedloom.__version__}")
        raise typer.Exit


@app.callback()
def connection(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="FEDLOOM_URL", help="The coordinator's address; by default http://127.0.0.1:8470."),
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="FEDLOOM_KEY", help="The operator's key.")] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="FEDLOOM_CA_FILE", exists=True, dir_okay=False, help="A CA to trust instead of the system's (PEM)."
        ),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http:// to another host.")] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = Connection(url=url, key=key, ca_file=ca_file, insecure=insecure)


def main() -> None:
    """Run the command line. An error prints one message on stderr and sets the exit code."""
    try:
        app(prog_name="fedloom")
    except (FedloomError, OSError) as error:
        sys.exit(report(error))
    except ModuleNotFoundError as error:
        if error.name not in COORDINATOR_NEEDS:
            raise
        sys.exit(report(FedloomError(f"{error.name} is not installed; run: pip install 'fedloom[coordinator]'")))
