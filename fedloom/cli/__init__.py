"""The ``fedloom`` command. Each group of commands is one package; a command imports slow modules only when it runs."""

import sys
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli import environment, output, secrets
from fedloom.cli.adapter import commands as adapter_commands
from fedloom.cli.adapter import merge
from fedloom.cli.agent import (
    campaigns_command,
    decision_commands,
    fingerprint,
    ledger_commands,
    owner_commands,
    policy_command,
    release_command,
)
from fedloom.cli.agent import operator_commands as agent_commands
from fedloom.cli.agent.pull import command as pull_command
from fedloom.cli.agent.report import command as report_command
from fedloom.cli.campaign import commands as campaign_commands
from fedloom.cli.chat import command as chat
from fedloom.cli.connection import Connection
from fedloom.cli.coordinator import algorithm, storage, token
from fedloom.cli.coordinator import commands as coordinator_commands
from fedloom.cli.data import check as check_data
from fedloom.cli.data import rows as data_rows
from fedloom.cli.evaluation import evaluate
from fedloom.cli.failures import ExitCode, report
from fedloom.cli.simulation import compare, simulate
from shared.stop_signals import as_interrupts

EPILOG = (
    "Exit codes: 0 done; 1 failed or refused; 2 wrong usage, an invalid file or environment variable; "
    "3 the coordinator cannot be reached; 4 not authenticated or not allowed; 5 not found; "
    "70 an error in Fedloom itself; 130 stopped by Ctrl-C or a signal (coordinator serve and engine, and agent run: 0)."
)

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
for command in (
    owner_commands.enroll,
    owner_commands.run,
    owner_commands.rotate_secret,
    check_data.check_data,
    data_rows.rows,
    campaigns_command.campaigns,
    decision_commands.approve,
    decision_commands.refuse,
    decision_commands.pause,
    decision_commands.leave,
    decision_commands.forget,
    pull_command.pull,
    release_command.release,
    report_command.report,
    policy_command.policy,
    fingerprint.fingerprint,
):
    agent_commands.app.command(rich_help_panel="Data owner")(command)
for name, operators_command in (
    ("list", agent_commands.list_),
    ("show", agent_commands.show),
    ("revoke", agent_commands.revoke),
):
    agent_commands.app.command(name, rich_help_panel="Operator")(operators_command)
agent_commands.app.add_typer(ledger_commands.app, name="ledger", rich_help_panel="Data owner")
app.add_typer(agent_commands.app, name="agent")
app.add_typer(token.app, name="token")
app.add_typer(algorithm.app, name="algorithm")
app.add_typer(coordinator_commands.app, name="coordinator")
app.command("evaluate")(evaluate.evaluate)
app.command("chat")(chat.chat)
app.command("simulate")(simulate.simulate)
app.command("compare")(compare.compare)
app.command("storage")(storage.storage)


@dataclass
class _Call:
    """One call of the command line."""

    debug: bool = False


def _version(requested: bool) -> None:
    if requested:
        import fedloom

        output.say(f"fedloom {fedloom.__version__}")
        raise typer.Exit


@app.callback()
def connection(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="FEDLOOM_URL", help="The coordinator's address; by default http://127.0.0.1:8470."),
    ] = None,
    key: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            envvar="FEDLOOM_KEY",
            show_envvar=False,
            callback=secrets.warn_if_visible,
            help="The operator's key; other users see it in `ps`: give --key-file or FEDLOOM_KEY instead.",
        ),
    ] = None,
    key_file: Annotated[  # noqa: ARG001
        Path | None,
        typer.Option(envvar="FEDLOOM_KEY_FILE", help="A file with the operator's key; - for standard input."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="FEDLOOM_CA_FILE", exists=True, dir_okay=False, help="A CA to trust instead of the system's (PEM)."
        ),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http:// to another host.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="FEDLOOM_DEBUG", help="Show where in the program an error happened.")
    ] = False,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if isinstance(ctx.obj, _Call):
        ctx.obj.debug = debug
    given_key, given_file = secrets.secret_or_file(ctx, "key")
    ctx.obj = Connection(url=url, key=given_key, key_file=given_file, ca_file=ca_file, insecure=insecure)


def main() -> None:
    """Run the command line. Every error prints a message on stderr and sets the exit code."""
    call = _Call()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no terminal and no pipe is too simple for a text
    try:
        environment.tidy()
        arguments = environment.with_home(sys.argv[1:])
        with as_interrupts():
            # not by typer itself: it prints arguments as they are, which a script may have from others
            code = app(arguments, prog_name="fedloom", obj=call, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else ExitCode.DONE)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - a person gets a message, whatever happened
        sys.exit(report(error, debug=call.debug))
