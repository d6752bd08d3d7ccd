"""What the coordinator's commands share: the options of its data and database, its settings, and words for errors."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedloom.cli import output, secrets
from fedloom.errors import BadDatabase, DatabaseUnreachable, FedloomError, InvalidOption

if TYPE_CHECKING:
    from coordinator.settings import Settings


def _warn_of_password(ctx: typer.Context, param: typer.CallbackParam, value: str | None) -> str | None:
    if value is not None and secrets.is_argument(ctx, param.name or "") and _has_password(value):
        output.say(
            "fedloom: other users of this machine can see the password of --database-url in the list of processes; "
            "use FEDLOOM_DATABASE_PASSWORD_FILE or FEDLOOM_DATABASE_URL",
            err=True,
        )
    return value


def _has_password(url: str) -> bool:
    user, at, _ = url.partition("://")[2].rpartition("@")
    return bool(at) and ":" in user


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
        callback=_warn_of_password,
        help="postgresql://user@host/name, for several replicas. By default SQLite in the data folder. Other users see "
        "a password here in `ps`: put it into the file FEDLOOM_DATABASE_PASSWORD_FILE.",
    ),
]


def settings_of(data_dir: Path | None, database_url: str | None) -> "Settings":
    """The settings of the options and the environment. Raises InvalidOption and BadDatabase."""
    from fedloom.coordinator_settings import coordinator_settings

    given: dict[str, Any] = {"data_dir": data_dir, "database_url": database_url}
    settings = coordinator_settings(**{name: value for name, value in given.items() if value is not None})
    _check_folder(settings.data_dir)
    with database_errors_converted():
        _ = settings.database  # refused before anything starts
    return settings


def _check_folder(folder: Path) -> None:
    """Raise InvalidOption if a file is where the data folder, or a folder above it, should be."""
    with suppress(PermissionError):  # the database's error says more
        if blocking := next((path for path in (folder, *folder.parents) if path.is_file()), None):
            raise InvalidOption(f"{blocking} is a file, not a folder; see --data-dir or FEDLOOM_DATA_DIR")


def prepare(settings: "Settings", *, first_key: bool = True) -> Path | None:
    """Bring the database up to date, as ``coordinator.main.prepare`` does. Raises FedloomError."""
    from coordinator import main
    from coordinator.database.migrate import UnknownSchema

    with database_errors_converted():
        try:
            return main.prepare(settings, first_key=first_key)
        except UnknownSchema as error:
            raise FedloomError(str(error)) from error


@contextmanager
def database_errors_converted() -> Iterator[None]:
    """For work that opens the database before anything serves: what goes wrong is one line."""
    from sqlalchemy.exc import DBAPIError

    from coordinator.errors import BadDatabaseUrl, DatabaseAway, SigningKeyNotLost, SigningKeyUnusable

    try:
        yield
    except (SigningKeyUnusable, SigningKeyNotLost) as error:
        raise FedloomError(str(error)) from error
    except BadDatabaseUrl as error:
        raise BadDatabase(str(error)) from error
    except DatabaseAway as error:
        raise DatabaseUnreachable(f"the database cannot be used: {error}") from error
    except DBAPIError as error:  # such as a user who may make no tables
        raise DatabaseUnreachable(f"the database cannot be used: {str(error.orig).splitlines()[0]}") from error
