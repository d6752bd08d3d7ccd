"""`fedloom coordinator`: starts the service. Its modules are imported only here, when they are needed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel

from fedloom.cli import output
from fedloom.cli.output import AsJson
from fedloom.errors import FedloomError

if TYPE_CHECKING:
    from coordinator.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Run a coordinator: the service that agents and operators speak to.")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="FEDLOOM_DATA_DIR",
        help="Folder of the database and the updates.",
        show_default="fedloom-data",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="FEDLOOM_DATABASE_URL",
        help="postgresql://user:password@host/name, for several replicas. Left out: SQLite in the data folder.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log every request.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8470,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    tls_cert: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Its private key (PEM).")] = None,
    engine: Annotated[bool, typer.Option(help="Run the round engine in the same process.")] = True,
    verbose: Verbose = False,
) -> None:
    """Serve. The first start makes the database and shows the operator's key, once."""
    from coordinator import main

    if (tls_cert is None) != (tls_key is None):
        message = "--tls-cert and --tls-key belong together"
        raise typer.BadParameter(message)
    settings = _settings(data_dir, database_url)
    main.log_to_stderr(verbose=verbose)
    listen = main.Listen(host, port, tls_cert, tls_key)
    key = _prepare(settings)
    console = Console(stderr=True)
    if key is not None:
        _show_key(console, key, listen.url)
    if tls_cert is None and host not in ("127.0.0.1", "localhost", "::1"):
        console.print("[yellow]Without --tls-cert everything travels in the clear; put a TLS proxy in front.[/]")
    console.print(f"Fedloom coordinator on [bold]{listen.url}[/], data in {settings.data_dir.resolve()}")
    main.serve(settings, listen, with_engine=engine)


@app.command()
def engine(data_dir: DataDir = None, database_url: DatabaseUrl = None, verbose: Verbose = False) -> None:
    """Run the round engine alone, beside services that were started with --no-engine."""
    from coordinator import main

    settings = _settings(data_dir, database_url)
    main.log_to_stderr(verbose=verbose)
    _prepare(settings, first_key=False)
    main.run_engine(settings)


@app.command("new-key")
def new_key(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Make a further operator's key, where the first one was lost. Earlier keys stay valid."""
    from coordinator import main

    settings = _settings(data_dir, database_url)
    _prepare(settings, first_key=False)
    key = main.new_key(settings)
    if as_json:
        output.print_json({"key": key})
    else:
        typer.echo(key)


def _settings(data_dir: Path | None, database_url: str | None) -> "Settings":
    from coordinator.settings import Settings

    given: dict[str, Any] = {"data_dir": data_dir, "database_url": database_url}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _prepare(settings: "Settings", *, first_key: bool = True) -> str | None:
    from coordinator import main
    from coordinator.migrate import SchemaTooNew

    try:
        return main.prepare(settings, first_key=first_key)
    except SchemaTooNew as error:
        raise FedloomError(str(error)) from error


def _show_key(console: Console, key: str, url: str) -> None:
    console.print(
        Panel(
            f"[bold]{key}[/]\n\nKeep it: it is shown this once. Then, in another terminal:\n\n"
            f"  export FEDLOOM_URL={url}\n  export FEDLOOM_KEY={key}\n  fedloom token create",
            title="The operator's key",
            expand=False,
        ),
        soft_wrap=True,
    )
