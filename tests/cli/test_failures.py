"""Every error of a command is a line and an exit code; only --debug shows where it happened."""

import pwd
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fedloom.cli import main
from shared.credentials import without_secrets
from tests.cli.conftest import Run
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator

ROOT = Path(__file__).parents[2]
SECRET = "fle_" + "s" * 43


class Settings(BaseModel):
    token: int


def raising(error: BaseException) -> Any:
    def connect(*_: object, **__: object) -> None:
        raise error

    return connect


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    def break_with(error: BaseException) -> None:
        monkeypatch.setattr("fedloom.cli.coordinator.storage.connect", raising(error))

    return break_with


def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(run: Run, broken: Any) -> None:
    broken(ZeroDivisionError(f"half of {SECRET}\nis \x1b[31mnothing"))
    ran = run("storage")
    assert ran.code == 70
    assert ran.err == (
        "fedloom: unexpected error: ZeroDivisionError: half of fle_…; run again with --debug to see where\n"
    )


def test_an_unexpected_invalid_value_is_not_shown(run: Run, broken: Any) -> None:
    with pytest.raises(ValueError) as caught:
        Settings(token="hunter2")  # type: ignore[arg-type]
    broken(caught.value)
    ran = run("storage")
    assert (ran.code, "hunter2" in ran.err) == (70, False)
    assert "ValidationError: Settings: invalid token" in ran.err


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_where_an_error_happened(
    how: str, broken: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(ZeroDivisionError(f"half of {SECRET} \x1b[31m"))
    monkeypatch.setattr(sys, "argv", ["fedloom", *(["--debug"] if how == "option" else []), "storage"])
    if how == "variable":
        monkeypatch.setenv("FEDLOOM_DEBUG", "1")
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 70
    assert "Traceback" in err
    assert "test_failures.py" in err
    assert SECRET not in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MemoryError(), 1, "this machine has not enough free memory"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (ModuleNotFoundError("no", name="uvicorn"), 1, "uvicorn is not installed"),
        (ModuleNotFoundError("No module named 'y'", name="y"), 70, "unexpected error: ModuleNotFoundError"),
        (RecursionError("deep"), 70, "unexpected error: RecursionError: deep"),
        (AssertionError(), 70, "unexpected error: AssertionError;"),
        (KeyboardInterrupt(), 130, ""),
        (EOFError(), 130, ""),
    ],
)
def test_each_kind_of_error_has_its_code(run: Run, broken: Any, error: BaseException, code: int, says: str) -> None:
    broken(error)
    ran = run("storage")
    assert ran.code == code
    assert says in ran.err
    assert len(ran.err.splitlines()) <= 1 + (not says)


@pytest.mark.parametrize("arguments", [["\x1b]0;T\x07"], ["--\x1b[2J"], ["campaign", "show", "a", "b\x1b[2J\nFAKE"]])
def test_a_usage_error_is_one_line_and_quotes_arguments_visibly(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert "\x1b" not in ran.err
    assert "--help" in ran.err


def test_secrets_and_passwords_are_left_out_of_texts() -> None:
    text = f"{SECRET}, flo_abc-_9; postgresql://user:p:w@host/x and https://u:secret@proxy but http://host:80/a@b"
    assert without_secrets(text) == (
        "fle_…, flo_…; postgresql://user:…@host/x and https://u:…@proxy but http://host:80/a@b"
    )


# --- options


def enroll(run: Run, folder: Path, **changes: str) -> Any:
    (folder / "token").write_text(changes.pop("token", SECRET))
    places = {"home": str(folder / "home"), "token-file": str(folder / "token")}
    options = {"coordinator": "http://127.0.0.1:9", **places} | changes
    return run("agent", "enroll", *(f"--{name}={value}" for name, value in options.items()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "ward 7"}, "name: only letters, digits, '.', '_' and '-'"),
        ({"name": "\x1b[2J"}, "name: "),
        ({"token": "short"}, "token: needs at least 8 characters"),
        ({"token": SECRET * 9}, "token: takes at most 200 characters"),
    ],
)
def test_enrolment_refuses_values_in_the_words_of_the_wire(
    run: Run, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    ran = enroll(run, tmp_path, **changes)
    assert ran.code == 2
    assert ran.err.startswith(f"fedloom: {says}")
    assert len(ran.err.splitlines()) == 1
    assert SECRET not in ran.err


def test_secrets_are_taken_without_the_white_space_around_them(
    fedloom: Run, coordinator: RunningCoordinator, operator: Operator, tmp_path: Path
) -> None:
    ran = enroll(fedloom, tmp_path, coordinator=f" {coordinator.url}/\n", token=f" {operator.token()}\n", name="ada")
    assert (ran.code, ran.err) == (0, "")
    for key in (f"{coordinator.key}\n", f"\t{coordinator.key}  "):
        assert fedloom("--key", key, "--url", f"{coordinator.url}\n", "storage").code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--label", "a b=c"], "Invalid value for --label: 'a b=c' is not a label; "),
        (["--label", "a=x\x1b[2J"], "labels a: "),
        (["--note", "x" * 201], "note: takes at most 200 characters"),
        (["--note", "a\x00b"], "note: "),
    ],
)
def test_a_tokens_labels_and_notes_are_refused_in_words(run: Run, options: list[str], says: str) -> None:
    ran = run("token", "create", *options)
    assert ran.code == 2
    assert ran.err.startswith(f"fedloom: {says}")
    assert len(ran.err.splitlines()) == 1
    assert "\x1b" not in ran.err


@pytest.mark.parametrize("key", ["a\nb", "ü", " x", ""])
def test_an_idempotency_key_that_no_header_carries_is_refused(run: Run, campaign_file: Path, key: str) -> None:
    ran = run("campaign", "create", campaign_file, f"--idempotency-key={key}")
    assert ran.code == 2
    assert "idempotency key: " in ran.err


def test_without_a_home_folder_the_cache_is_to_be_named(
    run: Run, campaign_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    home = campaign_file.parent / "home"
    home.mkdir()
    (home / "rows.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    (home / "agent.toml").write_text(
        '[data.notes]\npath = "rows.jsonl"\nprompt = "prompt"\ncompletion = "completion"\n'
    )
    ran = run("agent", "check-data", "notes", "--home", home, "--campaign", campaign_file)
    assert (ran.code, ran.err) == (
        2,
        "fedloom: this user has no home folder: set XDG_CACHE_HOME to a folder for caches\n",
    )


def test_a_setting_of_the_environment_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDLOOM_ENGINE__POLL_S", "often")
    ran = run("coordinator", "new-key", "--data-dir", tmp_path)
    assert ran.code == 2
    assert ran.err.startswith("fedloom: FEDLOOM_ENGINE__POLL_S: input should be a valid number")
