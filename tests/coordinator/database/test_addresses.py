"""The setting that names the database: what it may be, what asyncpg gets of it, and that no password is shown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.database.address import postgres_address
from coordinator.database.sessions import Database
from coordinator.errors import BadDatabaseUrl
from coordinator.settings import Settings

SECRET = "Sesame"


def connects(url: str, password: str | None = None) -> dict[str, Any]:
    """What asyncpg gets, without the times."""
    connect = postgres_address(url, password).connect
    return {name: value for name, value in connect.items() if name not in ("timeout", "command_timeout")}


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_the_parts_of_a_url_reach_asyncpg(scheme: str) -> None:
    assert connects(f"{scheme}://u:p@db.example:6432/x") == {
        "user": "u",
        "password": "p",
        "host": ["db.example"],
        "port": [6432],
        "database": "x",
    }


@pytest.mark.parametrize(
    ("password", "meant"),
    [
        ("p@ss", "p@ss"),
        ("p/w", "p/w"),
        ("9/w@x", "9/w@x"),
        ("p?w=1", "p?w=1"),
        ("p#w", "p#w"),
        ("p:w", "p:w"),
        ("100%", "100%"),
        ("100%25", "100%"),
        ("p%40%2F%3F%23", "p@/?#"),
        ("]`$ '\"\\", "]`$ '\"\\"),
        ("ключ", "ключ"),
    ],
)
def test_a_password_with_special_characters_is_read_as_it_is_meant(password: str, meant: str) -> None:
    found = connects(f"postgresql://u:{password}@db/x?application_name=a")
    assert (found["password"], found["host"], found["database"]) == (meant, ["db"], "x")


@pytest.mark.parametrize("password", ["a%zz%41", "p@s%41", "p/%2F"])
def test_a_password_that_may_mean_two_things_is_refused_with_the_remedy(password: str) -> None:
    with pytest.raises(BadDatabaseUrl, match=r"meant in two ways: percent-encode .*FEDLOOM_DATABASE_PASSWORD_FILE"):
        postgres_address(f"postgresql://u:{password}@db/x")


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("sslmode=require", {"dsn": "postgresql://?sslmode=require"}),
        ("sslmode=verify-full&sslrootcert={file}", {"dsn": "postgresql://?sslmode=verify-full&sslrootcert={encoded}"}),
        ("application_name=fed%20loom", {"server_settings": {"application_name": "fed loom"}}),
        ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("host=/run/postgresql&port=6000", {"host": ["/run/postgresql"], "port": [6000]}),
    ],
)
def test_libpqs_parameters_become_asyncpgs(query: str, given: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    found = connects(f"postgresql:///x?{query.format(file=file)}")
    if "dsn" in given:
        given = {"dsn": given["dsn"].format(encoded=str(file).replace("/", "%2F"))}
    assert found == {"database": "x", **given}


def test_a_time_limit_in_the_url_replaces_the_usual_one() -> None:
    assert postgres_address("postgresql://db/x?connect_timeout=9").connect["timeout"] == 9
    assert 0 < postgres_address("postgresql://db/x").connect["timeout"] <= 10


def test_several_hosts_and_ipv6_are_read() -> None:
    found = connects("postgresql://db1:1,db2,[::1]:3/x")
    assert (found["host"], found["port"]) == (["db1", "db2", "::1"], [1, 5432, 3])


REFUSED = {
    "": "it is empty; Fedloom takes postgresql://",
    "mysql://u:Sesame@h/x": "it begins with mysql://; Fedloom takes postgresql://",
    "postgresql+psycopg://u:Sesame@h/x": "it begins with postgresql[+]psycopg://",
    "sqlite:///x": "it begins with sqlite://; .*without a URL it uses SQLite",
    "host=db user=x password=Sesame": "not a URL",
    "Sesame": "not a URL",
    "postgresql://u:Sesame@h": "the name of the database is missing",
    "postgresql://u:Sesame@h/": "the name of the database is missing",
    "postgresql://u:Sesame@h:port/x": "its host or port cannot be read",
    "postgresql://u:Sesame@h:0/x": "its host or port cannot be read",
    "postgresql://u:Sesame@h:99999/x": "its host or port cannot be read",
    "postgresql://u:Sesame@a b/x": "its host or port cannot be read",
    "postgresql://u:Sesame@h/x?channel_binding=require": "its parameter 'channel_binding' is unknown; known are host,",
    "postgresql://u:Sesame@h/x?sslmode=on": "its parameter sslmode must be one of disable, allow,",
    "postgresql://u:Sesame@h/x?target_session_attrs=rw": "must be one of any, primary,",
    "postgresql://u:Sesame@h/x?connect_timeout=%D9%A9": "must be a whole number of seconds from 1 to 300",
    "postgresql://u:Sesame@h/x?connect_timeout=0": "must be a whole number of seconds from 1 to 300",
    "postgresql://u:Sesame@h/x?sslrootcert=/none/ca.pem": "names '/none/ca.pem', and there is no such file",
    "postgresql://u:Sesame@h/x?sslmode": "its parameters cannot be read",
    "postgresql://u:Sesame@h/x?port=1&port=2": "given twice",
    "postgresql://u:1?Sesame=Sesame@h": "its parameters cannot be read",
}


@pytest.mark.parametrize(("url", "reason"), REFUSED.items())
def test_a_url_that_is_not_taken_is_refused_in_one_line_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(BadDatabaseUrl, match=reason) as refused:
        postgres_address(url)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_password_may_be_given_apart(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}@/#%\n")
    url = "postgresql://u@db/x"
    for given in ({"database_password": f"{SECRET}@/#%"}, {"database_password_file": file}):
        settings = Settings(database_url=url, **given)
        assert settings.database.connect["password"] == f"{SECRET}@/#%"
        assert SECRET not in repr(settings) + repr(settings.database)
    assert (
        "password" not in Settings(database_url=url, database_password="", database_password_file="").database.connect
    )


def test_a_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_DATABASE_PASSWORD", SECRET)
    assert Settings(database_url="postgresql://u@db/x").database.connect["password"] == SECRET
    with pytest.raises(BadDatabaseUrl, match="give one of them"):
        _ = Settings(database_url="postgresql://u:other@db/x").database
    monkeypatch.setenv("FEDLOOM_DATABASE_PASSWORD_FILE", "/none/password")
    with pytest.raises(BadDatabaseUrl, match="both FEDLOOM_DATABASE_PASSWORD and"):
        _ = Settings(database_url="postgresql://u@db/x").database
    monkeypatch.delenv("FEDLOOM_DATABASE_PASSWORD")
    with pytest.raises(BadDatabaseUrl, match="/none/password cannot be read: No such file"):
        _ = Settings(database_url="postgresql://u@db/x").database


def test_a_password_without_a_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET)
    for given in ({"database_password": SECRET}, {"database_password_file": file}):
        with pytest.raises(BadDatabaseUrl, match="it is missing, and FEDLOOM_DATABASE_PASSWORD"):
            _ = Settings(data_dir=tmp_path, **given).database
    with pytest.raises(BadDatabaseUrl, match="/none/password cannot be read"):
        _ = Settings(data_dir=tmp_path, database_password_file="/none/password").database
    assert Settings(data_dir=tmp_path, database_password="", database_password_file="").database.file is not None


def test_a_password_is_in_no_representation_and_in_no_error_of_the_settings() -> None:
    settings = Settings(database_url=f"postgresql://u:{SECRET}@db/x")
    database = Database(settings.database)
    shown = (repr(settings), str(settings), repr(settings.database), repr(database.engine), str(database.engine.url))
    assert SECRET not in "".join(shown)
    assert settings.database.shown == "postgresql://u@db/x"
    with pytest.raises(ValidationError) as wrong:
        Settings(database_url=f"postgresql://u:{SECRET}@db/x", database_connections=SECRET)
    assert SECRET not in str(wrong.value)
