"""``fedloom agent enroll``, ``run``, ``rotate-secret``: commands on the data owner's machine."""

from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli import output, secrets
from fedloom.cli.output import AsJson
from shared import agent_home
from shared.system.private_files import make_files_private

Home = Annotated[
    Path,
    typer.Option(
        "--home", envvar="FEDLOOM_AGENT_HOME", help="The agent's folder, with its settings, identity and caches."
    ),
]
DEFAULT_HOME = agent_home.DEFAULT_HOME


def enroll(
    ctx: typer.Context,
    coordinator: Annotated[str, typer.Option(metavar="URL", help="The coordinator's address.")],
    token: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            envvar="FEDLOOM_TOKEN",
            show_envvar=False,
            callback=secrets.warn_if_visible,
            help="The one-time token from the operator; other users see it in `ps`: enter it when asked, or give "
            "--token-file or FEDLOOM_TOKEN instead.",
        ),
    ] = None,
    token_file: Annotated[  # noqa: ARG001
        Path | None,
        typer.Option(envvar="FEDLOOM_TOKEN_FILE", help="A file with the token; - for standard input."),
    ] = None,
    home: Home = DEFAULT_HOME,
    name: Annotated[
        str | None,
        typer.Option(help="Name of this agent; by default the host's name, and with --again the one it has."),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A CA to trust instead of the system's (PEM).")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain http:// to another host.")] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Replace the identity of an agent that was revoked, or that gets another coordinator. Its settings "
            "stay, and its record of what was done.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Enrol this machine as an agent, with a one-time token. Writes the agent's identity and example settings.

    Asks for the token, unless a file or FEDLOOM_TOKEN has it.

    Example: fedloom agent enroll --coordinator https://HOST:8470
    """
    from agent import main

    make_files_private()
    secret = _token(ctx)
    if main.begins_beside_settings(home):
        output.say(
            f"{home} has settings and no record of work: totals start at zero. If an agent worked here before, restore "
            "its record.db from the latest backup before you run it",
            err=True,
        )
    identity = main.enroll(home, coordinator, secret, name, ca_file=ca_file, insecure=insecure, again=again)
    if as_json:
        output.print_json({"agent_id": identity.agent_id, "name": identity.name, "home": str(home)})
        return
    _say_enrolled(identity.name, home, again=again)
    _say_key(identity.signing_key)


def _say_enrolled(name: str, home: Path, *, again: bool) -> None:
    """Say what is done, and what to do next."""
    from fedloom.cli.agent.deciding import command

    if again:
        output.say(f"enrolled again as {name}; settings and record are as before. Now run:")
    else:
        settings = home / "agent.toml"
        output.say(f"enrolled as {name}. Name your data and the base models that you trust in {settings}, then run:")
    output.say(f"  {command('run', '', home)}")


def _say_key(key: str) -> None:
    from shared.signing.keys import spoken

    output.say(f"the coordinator signs by the key {spoken(key)}")
    output.say("compare it with its operator, who sees it with `fedloom coordinator signing-key`")


def _token(ctx: typer.Context) -> str:
    """The token, from wherever it was given. Raises typer.BadParameter if it was not, and InvalidOption."""
    token, file = secrets.secret_or_file(ctx, "token")
    if file is not None:
        token = secrets.read(ctx, "token", file)
    token = token or secrets.ask("The token from the operator")
    if not token:
        message = "no token: name its file with --token-file, or set FEDLOOM_TOKEN"
        raise typer.BadParameter(message, param_hint="--token-file")
    return token


def run(home: Home = DEFAULT_HOME) -> None:
    """Run the agent until interrupted. Needs the extra `agent`.

    On a terminal it shows each new campaign in plain words and asks whether
    to take part, while other work goes on. Elsewhere the log says which
    campaign waits; see `fedloom agent campaigns`.
    """
    from agent import main
    from fedloom.cli.agent.asking import terminal_of
    from fedloom.evaluation.campaigns.here import benchmarks_here

    make_files_private()
    main.log_to_stderr()
    main.run(home, terminal=terminal_of(home), benchmarks=benchmarks_here)


def rotate_secret(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Replace the secret of a stopped agent; the old one stops working at once."""
    from agent import main

    make_files_private()
    main.rotate_secret(home)
    if as_json:
        output.print_json({"home": str(home), "rotated": True})
    else:
        output.say("the agent has a new secret")
