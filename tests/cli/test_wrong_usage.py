"""What a person gave and nothing can use ends with exit code 2, and names the option or the variable."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize("url", ["bogus", ":99999", "u:sesame@host", "http://127.0.0.1:99999", "ftp://here"])
def test_an_address_that_is_no_url_is_wrong_usage(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    by_option = run("--url", url, "campaign", "list")
    monkeypatch.setenv("FEDLOOM_URL", url)
    by_variable = run("campaign", "list")
    for refused in (by_option, by_variable):
        assert refused.code == 2
        assert "is not a valid URL of a coordinator" in refused.err
        assert refused.err.endswith("(FEDLOOM_URL or --url)\n")
        assert "sesame" not in refused.err


@pytest.mark.parametrize("url", ["127.0.0.1:8470", "here"])
def test_a_coordinator_that_is_no_url_is_wrong_usage(run: Run, tmp_path: Path, url: str) -> None:
    (tmp_path / "token").write_text("fle_" + "s" * 43)
    argv = ("--token-file", tmp_path / "token", "--home", tmp_path / "home")
    refused = run("agent", "enroll", "--coordinator", url, *argv)
    assert refused.code == 2
    assert refused.err.startswith(f"fedloom: {url} is not a valid URL of a coordinator: it needs the form http://")


COMMANDS = {"key": ("campaign", "list"), "token": ("agent", "enroll", "--coordinator", "http://127.0.0.1:1")}


@pytest.mark.parametrize("what", COMMANDS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [("missing", "No such file"), ("folder", "Is a directory"), ("empty", "it should hold a secret and nothing else")],
)
def test_a_file_of_a_secret_that_cannot_be_used_is_named_with_its_option_or_variable(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    content: str,
    reason: str,
) -> None:
    file, option, variable = tmp_path / "given", f"--{what}-file", f"FEDLOOM_{what.upper()}_FILE"
    if content != "missing":
        file.mkdir() if content == "folder" else file.touch()
    command = COMMANDS[what]
    given = (option, file, *command) if what == "key" else (*command, option, file)
    by_option = run(*given)
    monkeypatch.setenv(variable, str(file))
    by_variable = run(*command)
    for refused, where in ((by_option, option), (by_variable, variable)):
        assert refused.code == 2
        assert refused.err.startswith(f"fedloom: {where} names {file}, which cannot be used: {reason}")


def test_a_comparison_that_is_not_there_is_an_invalid_file(run: Run, tmp_path: Path) -> None:
    refused = run("compare", tmp_path / "nofile.yaml")
    assert (refused.code, refused.err) == (2, f"fedloom: {tmp_path / 'nofile.yaml'}: No such file or directory\n")


def test_a_password_file_without_a_database_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLOOM_DATABASE_PASSWORD_FILE", "/nope")
    refused = run("coordinator", "new-key", "--data-dir", tmp_path / "data")
    assert refused.code == 2
    assert "/nope cannot be read: No such file" in refused.err
    (tmp_path / "password").write_text("sesame")
    monkeypatch.setenv("FEDLOOM_DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    refused = run("coordinator", "new-key", "--data-dir", tmp_path / "data")
    assert refused.code == 2
    assert "is refused: it is missing, and FEDLOOM_DATABASE_PASSWORD or" in refused.err
    assert not (tmp_path / "data").exists()
