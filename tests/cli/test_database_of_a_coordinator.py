"""The commands that open a coordinator's database: whatever is wrong with it ends in one line and an exit code."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedloom.cli.failures import ExitCode
from tests.cli.conftest import Ran, Run
from tests.support.postgres import OwnPostgres, own_postgres
from tests.support.server import free_port

PASSWORD = "Sesame@/#%"
COMMANDS = ("serve", "engine", "new-key", "backup", "restore")
Command = Callable[[str, str | None], Ran]


@pytest.fixture
def command(run: Run, tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs one of COMMANDS with a URL, or with SQLite in the folder ``data``."""
    monkeypatch.delenv("FEDLOOM_DATABASE_URL", raising=False)
    files = {"backup": tmp_path / "new.backup", "restore": tmp_path / "old.backup"}

    def with_url(name: str, url: str | None) -> Ran:
        if name == "restore":
            whole = tmp_path / "whole"
            whole.mkdir(exist_ok=True)
            (whole / "fedloom.db").write_bytes(sqlite_template.read_bytes())
            files["restore"].unlink(missing_ok=True)
            assert run("coordinator", "backup", files["restore"], "--data-dir", whole).code == 0
        given = [files[name]] if name in files else []
        port = ["--port", free_port()] if name == "serve" else []
        with monkeypatch.context() as environment:
            if url is not None:  # not as an option: a password there is warned of
                environment.setenv("FEDLOOM_DATABASE_URL", url)
            return run("coordinator", name, *given, *port, "--data-dir", tmp_path / "data")

    return with_url


def is_one_line(ran: Ran) -> bool:
    assert "Sesame" not in ran.err + ran.out
    return ran.err.startswith("fedloom: ") and ran.err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "mysql://u:Sesame@127.0.0.1/x",
            "it begins with mysql://; Fedloom takes postgresql://user@host:port/name",
        ),
        ("postgresql+psycopg://u:Sesame@h/x", "it begins with postgresql+psycopg://; Fedloom takes"),
        ("host=db user=x password=Sesame", "not a URL; Fedloom takes"),
        ("postgresql://u:Sesame@h/x?channel_binding=require", "its parameter 'channel_binding' is unknown"),
    ],
)
def test_a_url_that_is_not_taken_ends_in_one_line(command: Command, name: str, url: str, reason: str) -> None:
    ran = command(name, url)
    assert is_one_line(ran)
    assert reason in ran.err
    assert ran.code == ExitCode.USAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_a_server_that_is_not_there_is_named(command: Command, name: str) -> None:
    port = free_port()
    ran = command(name, f"postgresql://u:Sesame@127.0.0.1:{port}/x?sslmode=require")
    assert is_one_line(ran)
    assert f": postgresql://u@127.0.0.1:{port}/x: nothing listens there" in ran.err
    assert ran.code == ExitCode.UNREACHABLE


def test_a_host_name_that_is_unknown_is_shown_as_it_was_read(command: Command) -> None:
    ran = command("new-key", "postgresql://u:Sesame@ss@nowhere.invalid/x")
    assert is_one_line(ran)
    assert "postgresql://u@nowhere.invalid/x: its host name is unknown" in ran.err
    assert "FEDLOOM_DATABASE_PASSWORD_FILE" in ran.err


@pytest.mark.parametrize("name", ["serve", "engine", "new-key", "backup"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"these are notes, no database" * 200, "its file is not a SQLite database"),
        (None, "its file cannot be opened; look at the rights of the file and its folder"),
    ],
)
def test_a_file_that_is_no_database_is_named(
    command: Command, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "data" / "fedloom.db"
    file.parent.mkdir()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    ran = command(name, None)
    assert is_one_line(ran)
    assert f": {file}: {reason}" in ran.err
    assert ran.code == ExitCode.UNREACHABLE


def test_a_database_that_another_process_locks_is_named(
    command: Command, tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.database.engines.LOCK_S", 0.1)
    file = tmp_path / "data" / "fedloom.db"
    file.parent.mkdir()
    file.write_bytes(sqlite_template.read_bytes())
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    try:
        ran = command("new-key", None)
    finally:
        other.close()
    assert is_one_line(ran)
    assert f"{file}: another process has locked it for too long" in ran.err


@pytest.fixture(scope="module")
def guarded() -> Iterator[OwnPostgres]:
    """A server that asks for a password, and speaks no TLS."""
    with own_postgres(PASSWORD) as server:
        yield server


@pytest.mark.deep
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("postgres@", "postgres:Sesame@"), "it refuses the user or the password"),
        (("postgres@", "nobody:Sesame@"), "it refuses the user or the password"),
        (("postgres@", f"postgres:{PASSWORD}@"), None),
        (("postgres@", "postgres:Sesame%40%2F%23%25@"), None),
        (("postgres@127.0.0.1:{port}/fedloom", f"postgres:{PASSWORD}@127.0.0.1:{{port}}/no"), "it has no database of"),
        (("/fedloom", "/fedloom?sslmode=require"), "rejected SSL upgrade"),
    ],
)
def test_what_postgres_refuses_is_said_in_words(
    command: Command, guarded: OwnPostgres, change: tuple[str, str], reason: str | None
) -> None:
    was, will_be = (part.format(port=guarded.port) for part in change)
    ran = command("new-key", guarded.url.replace(was, will_be))
    if reason is None:
        assert ran.code == 0
    else:
        assert is_one_line(ran)
        assert reason in ran.err
        assert ran.code == ExitCode.UNREACHABLE


@pytest.mark.deep
@pytest.mark.parametrize(
    "variable", ["FEDLOOM_DATABASE_PASSWORD", "FEDLOOM_DATABASE_PASSWORD_FILE", "PGPASSWORD", "PGPASSFILE"]
)
def test_a_password_given_apart_opens_the_database(
    command: Command, guarded: OwnPostgres, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text(f"*:*:*:*:{PASSWORD}\n" if variable == "PGPASSFILE" else f"{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv(variable, str(file) if variable.endswith("FILE") else PASSWORD)
    assert command("new-key", guarded.url).code == 0


@pytest.mark.deep
def test_a_user_who_may_make_no_tables_is_told_so(command: Command) -> None:
    with own_postgres() as server:
        server.execute("CREATE ROLE guest LOGIN")
        ran = command("serve", server.url.replace("postgres@", "guest@"))
    assert is_one_line(ran)
    assert "permission denied for schema public" in ran.err
    assert ran.code == ExitCode.UNREACHABLE
