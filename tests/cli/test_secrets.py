"""Secrets come from files and the environment; on the command line they are taken with a warning."""

import io
import stat
import sys
from pathlib import Path

import pytest

from fedloom.client import Client
from tests.cli.conftest import Run
from tests.support.server import RunningCoordinator, free_port

NOWHERE = f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def key_file(coordinator: RunningCoordinator, tmp_path: Path) -> Path:
    path = tmp_path / "operator.key"
    path.write_text(f"\ufeff  {coordinator.key}\r\n\n", encoding="utf-8")
    return path


def test_a_key_from_a_file_the_environment_or_standard_input(
    run: Run, coordinator: RunningCoordinator, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLOOM_URL", coordinator.url)
    assert run("--key-file", key_file, "campaign", "list").code == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(coordinator.key.encode())))
    assert run("--key-file", "-", "campaign", "list").code == 0
    monkeypatch.setenv("FEDLOOM_KEY_FILE", str(key_file))
    assert run("campaign", "list").code == 0
    for client in (Client(), Client(key_file=key_file), Client(key=coordinator.key, key_file=Path("/none"))):
        with client:
            assert list(client.campaigns()) == []


def test_an_argument_goes_before_the_environment_and_there_a_secret_before_its_file(
    run: Run, coordinator: RunningCoordinator, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLOOM_URL", coordinator.url)
    monkeypatch.setenv("FEDLOOM_KEY", "flo_wrong")
    monkeypatch.setenv("FEDLOOM_KEY_FILE", "/none")
    assert run("campaign", "list").code == 4
    assert run("--key-file", key_file, "campaign", "list").code == 0
    assert run("--key", coordinator.key, "campaign", "list").code == 0
    both = run("--key", coordinator.key, "--key-file", key_file, "campaign", "list")
    assert both.code == 2
    assert "not both" in both.err


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00", b"x" * 5000, None])
def test_a_file_without_a_secret_is_named(run: Run, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key"
    path.mkdir() if content is None else path.write_bytes(content)
    refused = run("--key-file", path, "campaign", "list")
    assert refused.code == 2
    reason = "Is a directory" if content is None else "it should hold a secret and nothing else"
    assert refused.err == f"fedloom: --key-file names {path}, which cannot be used: {reason}\n"


def test_a_file_of_a_key_is_not_read_by_commands_that_need_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_KEY_FILE", "/none")
    assert run("campaign", "reference").code == 0


def test_a_secret_among_the_arguments_is_warned_of_and_not_shown(run: Run) -> None:
    key = run("--url", NOWHERE, "--key", "flo_secret", "campaign", "list").err.splitlines()[0]
    assert key == (
        "fedloom: other users of this machine can see --key in the list of processes; use --key-file or FEDLOOM_KEY"
    )
    token = run("agent", "enroll", "--coordinator", NOWHERE, "--token", "fle_secret").err.splitlines()[0]
    assert token.endswith("use --token-file or FEDLOOM_TOKEN")
    argv = ("coordinator", "new-key", "--database-url", f"postgresql://u:p@ss@127.0.0.1:{free_port()}/x")
    assert "can see the password of --database-url" in run(*argv).err.splitlines()[0]


@pytest.mark.parametrize("url", ["postgresql://u@127.0.0.1:1/x", "postgresql://127.0.0.1:1/x"])
def test_a_database_without_a_password_needs_no_warning(run: Run, url: str, tmp_path: Path) -> None:
    assert "list of processes" not in run("coordinator", "new-key", "--data-dir", tmp_path, "--database-url", url).err


def test_a_token_from_a_file_or_standard_input_enrols(
    fedloom: Run, coordinator: RunningCoordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enroll(name: str, *options: object) -> str:
        ran = fedloom(
            *("agent", "enroll", "--coordinator", coordinator.url, "--home", tmp_path / name, "--name", name), *options
        )
        return ran.out + ran.err

    (tmp_path / "token").write_text(fedloom("token", "create").out)
    assert enroll("ada", "--token-file", tmp_path / "token").startswith("enrolled as ada")
    token = fedloom("token", "create").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(token.encode())))
    assert enroll("bob", "--token-file", "-").startswith(
        "enrolled as bob. Name your data and the base models that you trust in "
    )
    assert "no token: name its file with --token-file" in enroll("carol")


def test_a_new_key_goes_into_a_new_private_file(run: Run, coordinator: RunningCoordinator, tmp_path: Path) -> None:
    data, path = coordinator.services.settings.data_dir, tmp_path / "second.key"
    made = run("coordinator", "new-key", "--data-dir", data, "--out", path)
    assert made.code == 0
    assert "flo_" not in made.out + made.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("--url", coordinator.url, "--key-file", path, "campaign", "list").code == 0
    before = path.read_text()
    again = run("coordinator", "new-key", "--data-dir", data, "--out", path)
    assert (again.code, again.err) == (1, f"fedloom: {path}: it exists already; give the name of a new file\n")
    assert path.read_text() == before
