"""Every command ends bad options, files and environments in words: no traceback, a documented exit code."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedloom.cli.failures import ExitCode
from tests.cli.conftest import Ran, Run
from tests.support.command_line import Command, commands, fillers, global_options, write_files

EXPECTED = frozenset(ExitCode) - {ExitCode.UNEXPECTED}
MOST_LINES = 12
"""A usage error in its frame has eight; a file may have several problems."""

COMMANDS = pytest.mark.parametrize("command", commands(), ids=str)

FILES = {
    "missing": "nowhere/none.yaml",
    "folder": ".",
    "binary": "binary",
    "empty": "empty",
    "unreadable": "/proc/self/mem",
    "below a file": "a-file/x",
    "too long": "x" * 300,
    "not UTF-8": "\udcff",
}
TEXTS = {
    "nothing": "",
    "markup": "[/b][link=http://x]",
    "control": "\x1b]0;T\x07\n",
    "script": "Köln 漢",
    "URL": "http://[::1",
    "number": "9" * 400,
    "negative": "-1",
    "no number": "nan",
    "infinite": "1e999",
}
BAD_VALUES = {**FILES, **TEXTS}
SOME = ("binary", "control", "number")
"""The values that the fast tier tries for each option."""

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "proxy socks": {"ALL_PROXY": "socks5://127.0.0.1:1080"},
    "proxy garbage": {"HTTPS_PROXY": "foo bar", "HTTP_PROXY": "://", "ALL_PROXY": "http://:x"},
    "proxy kind": {"ALL_PROXY": "ftp://proxy"},
    "no proxy": {"NO_PROXY": "localhost,[::1],fd00::/8,:::", "ALL_PROXY": "http://127.0.0.1:9"},
    "authorities": {"SSL_CERT_FILE": "/nonexistent/ca.pem"},
    "authorities in a folder": {"SSL_CERT_DIR": "/nonexistent"},
    "bundle": {"REQUESTS_CA_BUNDLE": "/nonexistent/ca.pem"},
    "URL": {"FEDLOOM_URL": "htp:/[x"},
    "URL of nothing": {"FEDLOOM_URL": "https://"},
    "key": {"FEDLOOM_KEY": "not\x00a\nkey ü"},
    "CA": {"FEDLOOM_CA_FILE": "/nonexistent/ca.pem"},
    "debug": {"FEDLOOM_DEBUG": "perhaps"},
    "token": {"FEDLOOM_TOKEN": " \n"},
    "agent's home": {"FEDLOOM_AGENT_HOME": "/dev/null/x"},
    "data": {"FEDLOOM_DATA_DIR": "/dev/null/x"},
    "settings": {"FEDLOOM_ENGINE__POLL_S": "often"},
    "settings of nothing": {"FEDLOOM_ENGINE": "{"},
    "caches": {"XDG_CACHE_HOME": "/dev/null/x"},
    "terminal": {"COLUMNS": "many", "TERM": "garbage"},
    "narrow": {"COLUMNS": "1"},
    "no columns": {"COLUMNS": "0"},
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the command lines name, as the working folder; no command serves for ever."""
    write_files(tmp_path)
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "empty").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr("coordinator.main.serve", lambda *_, **__: None)
    monkeypatch.setattr("coordinator.main.run_engine", lambda *_: None)
    monkeypatch.setenv("FEDLOOM_URL", "http://127.0.0.1:9")
    return tmp_path


def check(ran: Ran, line: list[str]) -> None:
    assert ran.code in EXPECTED, (line, ran)
    assert "Traceback" not in ran.err + ran.out, (line, ran)
    assert "unexpected error" not in ran.err, (line, ran)
    assert len(ran.err.splitlines()) <= MOST_LINES, (line, ran)
    assert "\x1b" not in ran.err + ran.out, (line, ran)
    if ran.code not in (ExitCode.DONE, ExitCode.FAILED):
        assert ran.err.strip(), (line, ran)


def with_each(command: Command, folder: Path, kinds: tuple[str, ...]) -> Iterator[list[str]]:
    for parameter in command.parameters:
        for kind in kinds:
            yield command.line(folder, **{parameter.name: BAD_VALUES[kind]})


@COMMANDS
def test_bad_values_of_options(command: Command, run: Run, files: Path) -> None:
    for line in with_each(command, files, SOME):
        check(run(*line), line)


@pytest.mark.soak
@COMMANDS
def test_all_bad_values_of_options(command: Command, run: Run, files: Path) -> None:
    for line in with_each(command, files, tuple(BAD_VALUES)):
        check(run(*line), line)


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_bad_values_of_global_options(kind: str, run: Run, files: Path) -> None:
    for option in global_options():
        line = [*option.written(BAD_VALUES[kind]), "agent", "list"]
        ran = run(*line)
        check(ran, line)
        assert ran.code != ExitCode.DONE


def in_environment(name: str, command: Command, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = command.line(folder)
    for variable, value in ENVIRONMENTS[name].items():
        if "\x00" not in value:
            monkeypatch.setenv(variable, value)
    check(run(*line), line)


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("words", [("agent", "list"), ("agent", "enroll"), ("agent", "check-data"), ("storage",)])
def test_bad_environments(
    name: str, words: tuple[str, ...], run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [command] = [each for each in commands() if each.words == words]
    in_environment(name, command, run, files, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("name", ENVIRONMENTS)
@COMMANDS
def test_bad_environments_of_all_commands(
    name: str, command: Command, run: Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_environment(name, command, run, files, monkeypatch)


def test_a_file_that_a_folder_is_needed_for_is_named(run: Run, files: Path) -> None:
    assert "a-file" in fillers(files, ("coordinator",))["data_dir"]
    ran = run("coordinator", "new-key", "--data-dir", files / "a-file")
    assert ran.code == ExitCode.USAGE
    assert "a-file" in ran.err
