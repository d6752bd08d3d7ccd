"""Commands write to any output: a terminal of ASCII, a pipe that is closed, a disk that is full, none at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.operator import Operator
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import deep, soak

ROOT = Path(__file__).parents[2]


def in_a_process(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "fedloom", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


@pytest.mark.parametrize("environment", ASCII, ids=["PYTHONIOENCODING", "LC_ALL"])
def test_an_output_of_ascii_shows_other_scripts_as_escapes(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt":"é","completion":"漢"}\n', encoding="utf-8")
    (tmp_path / "agent.toml").write_text(
        '[data.d]\npath = "rows.jsonl"\nprompt = "prompt"\ncompletion = "completion"\n'
    )
    ran = in_a_process("agent", "check-data", "d", "--home", tmp_path, **environment)
    assert ran.returncode == 0, ran.stderr
    assert "\\u6f22" in ran.stdout
    ran = in_a_process("agent", "check-data", "d", "--home", tmp_path, "--json", **environment)
    assert "漢" in json.dumps(json.loads(ran.stdout), ensure_ascii=False)


def test_a_listing_in_ascii_shows_other_scripts_as_escapes(coordinator: RunningCoordinator, operator: Operator) -> None:
    operator.token(labels={"city": "Köln"})
    access = {"FEDLOOM_URL": coordinator.url, "FEDLOOM_KEY": coordinator.key}
    ran = in_a_process("token", "list", PYTHONIOENCODING="ascii", **access)
    assert ran.returncode == 0, ran.stderr
    assert "city=K\\xf6ln" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 80


def test_a_pipe_that_is_closed_ends_a_command_quietly() -> None:
    command = [sys.executable, "-m", "fedloom", "campaign", "reference"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ran = subprocess.run(
            command, env=environment, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert "Traceback" not in ran.stderr
    assert ran.returncode in (1, 120)


@pytest.mark.parametrize("redirect", [">&-", soak(">&- 2>&-"), "<&-", "> /dev/full", soak("> /dev/full 2>&1")])
@pytest.mark.parametrize(
    "command", ["campaign create c.yaml --dry-run --json", deep("campaign reference"), deep("storage"), deep("chat .")]
)
def test_an_output_that_is_closed_or_full_is_no_traceback(campaign_file: Path, redirect: str, command: str) -> None:
    campaign_file.rename(campaign_file.parent / "c.yaml")
    ran = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m fedloom --url http://127.0.0.1:9 {command} {redirect}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=campaign_file.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in ran.stderr
    assert ran.returncode in (0, 1, 2, 3, 120), ran.stderr


@pytest.mark.parametrize("side", ["agent", "coordinator"])
def test_a_log_line_of_a_process_stays_one_line(side: str) -> None:
    start = {"agent": "agent.main.log_to_stderr()", "coordinator": "coordinator.main.begin_process(verbose=False)"}[
        side
    ]
    code = f"import logging, {side}.main; {start}; logging.warning('x %s', '\\x1b[2J\\nFAKE LINE')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stderr.endswith("x \\x1b[2J\\nFAKE LINE\n")
    assert len(ran.stderr.splitlines()) == 1
