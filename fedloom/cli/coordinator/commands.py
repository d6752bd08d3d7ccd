"""``fedloom coordinator``: run the service, back it up. Each command imports the service's modules when it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel

from fedloom.cli import output
from fedloom.cli.output import AsJson
from fedloom.errors import FedloomError

if TYPE_CHECKING:
    from coordinator.backup.archive import Manifest
    from coordinator.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Run a coordinator, the service that agents and operators connect to.")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="FEDLOOM_DATA_DIR",
        help="Folder for the database and the stored files.",
        show_default="fedloom-data",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        envvar="FEDLOOM_DATABASE_URL",
        help="postgresql://user:password@host/name, for several replicas. By default SQLite in the data folder.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log every request.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8470,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    tls_cert: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Private key of the certificate (PEM).")
    ] = None,
    engine: Annotated[bool, typer.Option(help="Run the round engine in this process.")] = True,
    verbose: Verbose = False,
) -> None:
    """Start the service. The first start creates the database and shows the operator's key, once.

    Example: fedloom coordinator serve --data-dir fedloom-data --port 8470
    """
    from coordinator import main

    if (tls_cert is None) != (tls_key is None):
        message = "give both --tls-cert and --tls-key, or neither"
        raise typer.BadParameter(message)
    settings = _settings(data_dir, database_url)
    main.log_to_stderr(verbose=verbose)
    listen = main.Listen(host, port, tls_cert, tls_key)
    key = _prepare(settings)
    console = Console(stderr=True)
    if key is not None:
        _show_key(console, key, listen.url)
    if tls_cert is None and host not in ("127.0.0.1", "localhost", "::1"):
        console.print("[yellow]Without --tls-cert all traffic is unencrypted; put a TLS proxy in front.[/]")
    console.print(f"Fedloom coordinator on [bold]{listen.url}[/], data in {settings.data_dir.resolve()}")
    main.serve(settings, listen, with_engine=engine)


@app.command()
def engine(data_dir: DataDir = None, database_url: DatabaseUrl = None, verbose: Verbose = False) -> None:
    """Run only the round engine, for services that were started with --no-engine."""
    from coordinator import main

    settings = _settings(data_dir, database_url)
    main.log_to_stderr(verbose=verbose)
    _prepare(settings, first_key=False)
    main.run_engine(settings)


@app.command("new-key")
def new_key(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Create another operator's key, for example if the first one was lost. Earlier keys stay valid."""
    from coordinator import main

    settings = _settings(data_dir, database_url)
    _prepare(settings, first_key=False)
    key = main.new_key(settings)
    if as_json:
        output.print_json({"key": key})
    else:
        typer.echo(key)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="The file to write; it must not exist yet.")],
    leave_out_damaged: Annotated[
        bool,
        typer.Option("--leave-out-damaged", help="Leave out damaged files, as if they were no longer stored."),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Back up a coordinator to one file, while it runs.

    Campaigns continue meanwhile. Every adapter and update is checked against
    its digest. `fedloom coordinator restore` restores the file to SQLite or
    PostgreSQL, whichever it came from.

    Example: fedloom coordinator backup monday.backup
    """
    from coordinator.backup.saving import back_up

    settings = _settings(data_dir, database_url)
    with _backup_errors_converted(), _bytes_progress("backing up") as show:
        manifest = back_up(settings, file, leave_out_damaged=leave_out_damaged, show=show)
    if as_json:
        output.print_json({"file": str(file.absolute()), **manifest.model_dump(mode="json")})
        return
    for damage in manifest.left_out:
        typer.echo(f"left out: {damage}", err=True)
    typer.echo(f"backed up {_contents(manifest)}, to {file}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file that `backup` wrote.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup as the data of a new coordinator.

    The data folder must not hold a database yet, or the PostgreSQL database
    must be empty. A backup from an older version is migrated to the newest
    schema.

    Example: fedloom coordinator restore monday.backup --data-dir new-data
    """
    from coordinator.backup.places import place_of
    from coordinator.backup.restoring import restore as restore_backup

    settings = _settings(data_dir, database_url)
    with _backup_errors_converted(), _bytes_progress("restoring") as show:
        manifest = restore_backup(settings, file, show=show)
    if as_json:
        output.print_json({"database": place_of(settings), "backup": manifest.model_dump(mode="json")})
        return
    typer.echo(f"restored {_contents(manifest)}, from {manifest.made_at:%Y-%m-%d %H:%M} UTC, to {place_of(settings)}")
    typer.echo(
        "start it with `fedloom coordinator serve` and the same options; changes after the backup are lost:\n"
        "agents that enrolled since then must enrol again, agents that were revoked since then must be revoked again"
    )


@contextmanager
def _backup_errors_converted() -> Iterator[None]:
    from coordinator.database.migrate import UnknownSchema
    from coordinator.errors import CoordinatorError

    try:
        yield
    except (CoordinatorError, UnknownSchema) as error:
        raise FedloomError(str(error)) from error


@contextmanager
def _bytes_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal. Yields a function of the bytes done and the bytes in total."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = output.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _contents(manifest: "Manifest") -> str:
    counts = {"campaign": manifest.campaigns, "adapter": manifest.adapters, "update": manifest.updates}
    words = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    return ", ".join([*words, output.size(manifest.n_bytes), f"schema {manifest.schema_revision}"])


def _settings(data_dir: Path | None, database_url: str | None) -> "Settings":
    from coordinator.settings import Settings

    given: dict[str, Any] = {"data_dir": data_dir, "database_url": database_url}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _prepare(settings: "Settings", *, first_key: bool = True) -> str | None:
    from coordinator import main
    from coordinator.database.migrate import UnknownSchema

    try:
        return main.prepare(settings, first_key=first_key)
    except UnknownSchema as error:
        raise FedloomError(str(error)) from error


def _show_key(console: Console, key: str, url: str) -> None:
    console.print(
        Panel(
            f"[bold]{key}[/]\n\nStore this key: it is shown only once. Then, in another terminal:\n\n"
            f"  export FEDLOOM_URL={url}\n  export FEDLOOM_KEY={key}\n  fedloom token create",
            title="The operator's key",
            expand=False,
        ),
        soft_wrap=True,
    )
