"""Reports of settings that reached a server otherwise than the operator meant, without a word."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.settings import Settings
from fedloom.unread_variables import OF_COMMANDS
from tests.cli.conftest import Ran, run
from tests.support.command_line import tree
from tests.support.server import RunningCoordinator

__all__ = ["run"]

Run = Callable[..., Ran]

NEW_KEY = ("coordinator", "new-key")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name.startswith("FEDLOOM_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("end", ["\r", "\r\n", " \t", "\n"])
def test_the_end_of_a_line_is_no_part_of_a_folders_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("FEDLOOM_DATA_DIR", f"{tmp_path / 'data'}{end}")
    assert run(*NEW_KEY).code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("FEDLOOM_DATA_DIR", NEW_KEY),
        ("FEDLOOM_STORAGE__UPDATES", NEW_KEY),
        ("FEDLOOM_AGENT_HOME", ("agent", "run")),
        ("FEDLOOM_KEY", ("agent", "list")),
    ],
)
def test_quotes_around_a_value_are_named_and_the_value_is_not(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    command: tuple[str, ...],
    quote: str,
) -> None:
    monkeypatch.setenv(name, f"{quote}of-the-value{quote}")
    refused = run(*command)
    assert refused.code == 2
    assert refused.err.startswith(f"fedloom: {name} has quotes around its value")
    assert "of-the-value" not in refused.err
    assert not list(tmp_path.iterdir())


def test_a_tilde_is_the_home_folder_in_variables_and_after_an_equals_sign(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert run(*NEW_KEY, "--data-dir=~/given").code == 0
    monkeypatch.setenv("FEDLOOM_DATA_DIR", "~/set")
    assert run(*NEW_KEY).code == 0
    assert sorted(each.name for each in home.iterdir()) == ["given", "set"]
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("FEDLOOM_LEASE__TTL", "FEDLOOM_LEASE__TTL_S"),
        ("FEDLOOM_LEASES__TTL_S", "FEDLOOM_LEASE__TTL_S"),
        ("FEDLOOM_STORGE__UPDATES", "FEDLOOM_STORAGE__UPDATES"),
        ("fedloom_engine__pol_s", "FEDLOOM_ENGINE__POLL_S"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_one_that_was_meant(
    run: Run, monkeypatch: pytest.MonkeyPatch, misspelt: str, meant: str
) -> None:
    monkeypatch.setenv(misspelt, "secret-5")
    refused = run(*NEW_KEY)
    assert refused.code == 2
    expected = f"{misspelt} has no effect: not a setting of a coordinator; did you mean {meant}?"
    assert refused.err == f"fedloom: {expected}\n"


@pytest.mark.parametrize(
    ("unread", "hint"),
    [("FEDLOOM_DATADIR", "; did you mean FEDLOOM_DATA_DIR?"), ("FEDLOOM_PORT", ""), ("FEDLOOM_IMAGE_TAG", "")],
)
def test_a_variable_that_nothing_reads_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unread: str, hint: str
) -> None:
    monkeypatch.setenv(unread, "9000")
    assert run(*NEW_KEY).code == 0
    assert caplog.messages == [f"{unread} has no effect: not a setting of a coordinator{hint}"]


def test_variables_of_options_and_of_kubernetes_are_not_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for service in ("FEDLOOM", "FEDLOOM_COORDINATOR"):  # Services that are named fedloom and fedloom-coordinator
        for name, value in {
            "SERVICE_HOST": "10.0.0.1",
            "SERVICE_PORT": "8470",
            "SERVICE_PORT_HTTP": "8470",
            "PORT": "tcp://10.0.0.1:8470",
            "PORT_8470_TCP": "tcp://10.0.0.1:8470",
            "PORT_8470_TCP_PROTO": "tcp",
            "PORT_8470_TCP_PORT": "8470",
            "PORT_8470_TCP_ADDR": "10.0.0.1",
        }.items():
            monkeypatch.setenv(f"{service}_{name}", value)
    monkeypatch.setenv("FEDLOOM_URL", "http://127.0.0.1:8470")
    assert run(*NEW_KEY).code == 0
    assert not caplog.messages


def test_the_variables_of_all_options_are_known() -> None:
    settings = {f"FEDLOOM_{name.upper()}" for name in Settings.model_fields}
    assert _variables(tree()) <= OF_COMMANDS | settings


def _variables(tree: Any) -> set[str]:
    def below(node: Any) -> set[str]:
        own = {name for each in node.params for name in _names(each.envvar)}
        return own.union(*map(below, getattr(node, "commands", {}).values()))

    return below(tree)


def _names(envvar: Any) -> list[str]:
    return [] if envvar is None else [envvar] if isinstance(envvar, str) else list(envvar)


@pytest.mark.parametrize("name", ["FEDLOOM_KEYFILE", "FEDLOOM_KEY_FIEL", "FEDLOOM_KEYS"])
def test_a_command_without_a_key_names_the_variable_that_nothing_reads(
    run: Run, coordinator: RunningCoordinator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FEDLOOM_URL", coordinator.url)
    monkeypatch.setenv(name, "of-the-value")
    refused = run("agent", "list")
    assert f"; {name} has no effect: did you mean FEDLOOM_KEY" in refused.err
    assert "of-the-value" not in refused.err


def test_a_group_of_settings_is_no_hint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_LIMITS__FOO", "1")
    refused = run(*NEW_KEY)
    assert refused.code == 2
    assert "did you mean FEDLOOM_LIMITS?" not in refused.err
