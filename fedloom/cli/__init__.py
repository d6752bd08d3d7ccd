"""The ``fedloom`` command. A command is imported when it is called, and imports slow modules only when it runs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from fedloom.cli import environment, output, secrets
from fedloom.cli.connection import Connection
from fedloom.cli.failures import ExitCode, report
from fedloom.cli.lazy import Later, LazyGroup
from shared.system.stop_signals import as_interrupts

EPILOG = (
    "Exit codes: 0 done; 1 failed or refused; 2 wrong usage, an invalid file or environment variable; "
    "3 the coordinator cannot be reached; 4 not authenticated or not allowed; 5 not found; "
    "70 an error in Fedloom itself; 130 stopped by Ctrl-C or a signal (coordinator serve and engine, and agent run: 0)."
)


class Commands(LazyGroup):
    """All commands. To import them all would take longer than most of them run."""

    later: ClassVar[Mapping[str, Later]] = {
        "evaluate": Later(
            "fedloom.cli.evaluation.evaluate:evaluate",
            "Measure a base model and adapters on public benchmarks, each number with its interval.",
        ),
        "chat": Later(
            "fedloom.cli.chat.command:chat",
            "Ask the base model and the adapted model the same questions, side by side.",
        ),
        "simulate": Later(
            "fedloom.cli.simulation.simulate:simulate",
            "Run a campaign with many clients on this machine: a real coordinator, real HTTP, one model in memory for "
            "all.",
        ),
        "compare": Later(
            "fedloom.cli.simulation.compare:compare",
            "Compare algorithms and baselines: equal steps for all, scores on the same rows and by the same evaluation "
            "tasks.",
        ),
        "storage": Later(
            "fedloom.cli.coordinator.storage:storage", "Show how many bytes the coordinator stores, by kind."
        ),
        "campaign": Later("fedloom.cli.campaign.commands:app", "Start, watch and control campaigns."),
        "adapter": Later("fedloom.cli.adapter.commands:app", "List, download and merge the adapters of campaigns."),
        "agent": Later("fedloom.cli.agent.commands:app", "Run an agent; list, show and revoke enrolled agents."),
        "token": Later(
            "fedloom.cli.coordinator.token:app", "Create and manage the one-time tokens that agents enrol with."
        ),
        "algorithm": Later(
            "fedloom.cli.coordinator.algorithm:app", "Show the federated algorithms that campaigns can use."
        ),
        "coordinator": Later(
            "fedloom.cli.coordinator.commands:app",
            "Run a coordinator, the service that agents and operators connect to.",
        ),
    }


app = typer.Typer(
    name="fedloom",
    cls=Commands,
    help="Fine-tune a language model together, on data that never leaves its owners.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
