"""``fedloom coordinator``: run the service, back it up. Each command imports the service's modules when it runs."""

import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.coordinator import signing
from fedloom.cli.coordinator.listening import check_address, check_certificate
from fedloom.cli.coordinator.opening import DatabaseUrl, DataDir, database_errors_converted, prepare, settings_of
from fedloom.cli.output import AsJson
from fedloom.errors import DatabaseUnreachable, FedloomError
from shared.network.urls import host_in_url, is_confidential
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from coordinator.backup.archive import Manifest

app = typer.Typer(no_args_is_help=True)
app.command()(signing.signing_key)
app.command()(signing.rotate_signing_key)


@app.callback()
def private() -> None:
    """Run a coordinator, the service that agents and operators connect to."""
    make_files_private()


def _address(given: str) -> str:
    """The address to listen on, in the usual form. Raises typer.BadParameter if no URL can name it."""
    host = given.strip().removeprefix("[").removesuffix("]")
    try:
        with suppress(OSError):  # a name; a zone, which no URL has, stays
            host = host if "%" in host else str(socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)[0][4][0])
        is_confidential(f"http://{host_in_url(host)}:1")
    except ValueError as error:  # also from the encoding of a name
        message = f"{given[:100]!r} is neither an address nor a host's name; 0.0.0.0 stands for all interfaces"
        raise typer.BadParameter(message) from error
    return host


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log every request.")]


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 or :: for all interfaces.", callback=_address)
    ] = "127.0.0.1",
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
    """Start the service. The first start creates the database, and the operator's key in a file of the data folder.

    Example: fedloom coordinator serve --data-dir fedloom-data --port 8470
    """
    from coordinator import main

    if (tls_cert is None) != (tls_key is None):
        message = "give both --tls-cert and --tls-key, or neither"
        raise typer.BadParameter(message)
    settings = settings_of(data_dir, database_url)
    if tls_cert is not None and tls_key is not None:
        check_certificate(tls_cert, tls_key)
    check_address(host, port)
    main.begin_process(verbose=verbose)
    listen = main.Listen(host, port, tls_cert, tls_key)
    key_file = prepare(settings)
    if key_file is not None:
        _tell_of_key(key_file, listen.url)
    console = output.console(stderr=True)
    if tls_cert is None and not is_confidential(f"http://{host_in_url(host)}"):
        warning = "Without --tls-cert all traffic is unencrypted; put a TLS proxy in front."
        console.print(warning, style="yellow")
    family = {"0.0.0.0": "IPv4", "::": "IPv6"}.get(host)  # noqa: S104
    everywhere = f" and every other {family} address of this machine" if family else ""
    where = f"{everywhere}, data in {visible_line(str(settings.data_dir.resolve()))}"
    line = Text.assemble("Fedloom coordinator on ", (listen.url, "bold"), where)
    main.serve(settings, listen, with_engine=engine, when_listening=lambda: console.print(line, soft_wrap=True))


@app.command()
def engine(data_dir: DataDir = None, database_url: DatabaseUrl = None, verbose: Verbose = False) -> None:
    """Run only the round engine, for services that were started with --no-engine."""
    from coordinator import main

    settings = settings_of(data_dir, database_url)
    main.begin_process(verbose=verbose)
    prepare(settings, first_key=False)
    with database_errors_converted():
        main.run_engine(settings)


@app.command("new-key")
def new_key(
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A new file for the key, which only you can read; the key is not printed."),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Create another operator's key, for example if the first one was lost. Earlier keys stay valid.

    Without --out the key is printed, once.
    """
    from coordinator import main

    settings = settings_of(data_dir, database_url)
    prepare(settings, first_key=False)
    with database_errors_converted():
        key = main.new_key(settings, out)
    if as_json:
        output.print_json({"key": key} if out is None else {"file": str(out.absolute())})
    elif out is not None:
        output.say(f"the key is in {out}; export FEDLOOM_KEY_FILE={shlex.quote(str(out.absolute()))}")
    else:
        output.say(key)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="The file to write; it must not exist yet.")],
    leave_out_damaged: Annotated[
        bool,
        typer.Option("--leave-out-damaged", help="Leave out damaged files, as if they were no longer stored."),
    ] = False,
    with_key: Annotated[
        bool,
        typer.Option("--with-key", help="Add the signing key: whoever has the file can then sign for the coordinator."),
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

    settings = settings_of(data_dir, database_url)
    with _backup_errors_converted(), _bytes_progress("backing up") as show:
        manifest = back_up(settings, file, leave_out_damaged=leave_out_damaged, with_key=with_key, show=show)
    if as_json:
        output.print_json({"file": str(file.absolute()), **manifest.model_dump(mode="json")})
        return
    for damage in manifest.left_out:
        output.say(f"left out: {damage}", err=True)
    output.say(f"backed up {_contents(manifest)}, to {file}")
    if not with_key:
        output.say(f"not in it: the signing key, {settings.signing_key_file}; keep a copy of that file", err=True)


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

    settings = settings_of(data_dir, database_url)
    with _backup_errors_converted(), _bytes_progress("restoring") as show:
        manifest = restore_backup(settings, file, show=show)
    if as_json:
        output.print_json({"database": place_of(settings), "backup": manifest.model_dump(mode="json")})
        return
    output.say(f"restored {_contents(manifest)}, from {manifest.made_at:%Y-%m-%d %H:%M} UTC, to {place_of(settings)}")
    if not settings.signing_key_file.exists():
        output.say(f"the backup has no signing key: put the file of the old coordinator at {settings.signing_key_file}")
    output.say(
        "start it with `fedloom coordinator serve` and the same options; changes after the backup are lost:\n"
        "agents that enrolled since then must enrol again, agents that were revoked since then must be revoked again"
    )


@contextmanager
def _backup_errors_converted() -> Iterator[None]:
    from coordinator.database.migrate import UnknownSchema
    from coordinator.errors import CoordinatorError, DatabaseAway

    with database_errors_converted():
        try:
            yield
        except (CoordinatorError, UnknownSchema) as error:
            is_away = isinstance(error.__cause__, DatabaseAway)
            raise (DatabaseUnreachable if is_away else FedloomError)(str(error)) from error


@contextmanager
def _bytes_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal. Yields a function of the bytes done and the bytes in total."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = output.console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _contents(manifest: "Manifest") -> str:
    counts = {"campaign": manifest.campaigns, "adapter": manifest.adapters, "update": manifest.updates}
    words = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    return ", ".join([*words, output.size(manifest.n_bytes), f"schema {manifest.schema_revision}"])


def _tell_of_key(file: Path, url: str) -> None:
    """Say where the first key is. The key itself is not printed: a journal or a container's log would keep it."""
    output.say(
        f"The operator's key is in {file.resolve()}, which only its owner can read. In another terminal:\n\n"
        f"  export FEDLOOM_URL={url}\n  export FEDLOOM_KEY_FILE={shlex.quote(str(file.resolve()))}\n"
        "  fedloom token create\n",
        err=True,
    )
