"""Stopped by Ctrl-C or kill -9 at any time, ``fedloom evaluate`` leaves no process, and goes on where it was."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluation.command.conftest import N_ROWS, Evaluation, Start, children_of, is_running, replies_in
from tests.support.processes import wait_until
from tests.support.suite.tiers import deep, soak
from tests.unit.evaluation.sandbox.test_escapes import has_process

pytestmark = pytest.mark.train

ENDLESS = '''
from fedloom.evaluation.sandbox.program import WholeProgram
from fedloom.evaluation.tasks.base import Item, Items
from fedloom.evaluation.tasks.code.code_task import CodeTask


class Endless(CodeTask):
    """Programs that run for as long as they may."""

    name, title, origin, files = "endless", "Endless", "made up", ()
    max_new_tokens = 4

    def load(self, data):
        return Items([Item(str(n), "", {}) for n in range(4)], 4, {})

    def prompt(self, item):
        return f"Write program {item.id}."

    question = prompt

    def program(self, item, reply):
        spin = "[sys.executable, '-S', '-c', 'while True: pass', 'fedloom-' + 'MARKER']"
        code = f"import os, sys\\nos.fork() or os.setsid()\\nos.execv(sys.executable, {spin})"
        return WholeProgram(code, seconds=SECONDS)
'''


@pytest.fixture
def options(base: Path, data: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("--base", base, "--data", data, "--out", tmp_path / "out", "--tasks")


def at_once(_running: Evaluation, _out: Path) -> bool:
    return True


def in_the_load(running: Evaluation, _out: Path) -> bool:
    return bool(children_of(running.process.pid))


def in_generation(_running: Evaluation, out: Path) -> bool:
    return len(replies_in(out)) >= 8


@pytest.mark.parametrize("when", [soak(at_once), soak(in_the_load), deep(in_generation)])
def test_ctrl_c_ends_it_with_words_and_the_same_command_asks_nothing_twice(
    start: Start, options: tuple[object, ...], tmp_path: Path, when: Callable[[Evaluation, Path], bool]
) -> None:
    out = tmp_path / "out"
    running = start(*options, "rows")
    running.wait_until(lambda: (out / "evaluation.lock").exists() and when(running, out), "the moment")
    children = children_of(running.process.pid)
    assert running.interrupt() == 130
    assert running.said.splitlines()[-1] == "stopped; the same command goes on where it was"
    assert not any(map(is_running, children))
    before = replies_in(out)
    again = start(*options, "rows")
    assert again.ended() == 0, again.said
    assert replies_in(out)[: len(before)] == before
    assert len(set(replies_in(out))) == len(replies_in(out)) == N_ROWS


@pytest.mark.soak
@pytest.mark.parametrize("is_isolated", [True, False], ids=["isolated", "not isolated"])
@pytest.mark.parametrize("end", [Evaluation.interrupt, Evaluation.kill])
def test_programs_end_with_it(
    start: Start,
    options: tuple[object, ...],
    tmp_path: Path,
    end: Callable[[Evaluation], object],
    is_isolated: bool,
) -> None:
    marker = f"endless-{tmp_path.name}-{time.monotonic_ns()}"
    task = tmp_path / "endless.py"
    task.write_text(ENDLESS.replace("MARKER", marker).replace("SECONDS", "600"))
    arguments = (*options, "endless.py:Endless", *([] if is_isolated else ["--run-untrusted-code"]))
    running = start(*arguments)
    running.wait_until(lambda: has_process(f"fedloom-{marker}"), "a program")
    children = children_of(running.process.pid)
    end(running)
    wait_until(lambda: not has_process(f"fedloom-{marker}") and not any(map(is_running, children)), "their end", 20)
    assert len(replies_in(tmp_path / "out")) == 4
    task.write_text(ENDLESS.replace("MARKER", marker).replace("SECONDS", "0.5"))
    again = start(*arguments)
    assert again.ended() == 0, again.said
    assert "endless: pass@1 base 0.0" in again.said
    assert len(replies_in(tmp_path / "out")) == 4
    assert not has_process(f"fedloom-{marker}")


@pytest.mark.deep
def test_a_kill_loses_at_most_one_order_and_a_torn_line_nothing_else(
    start: Start, options: tuple[object, ...], tmp_path: Path
) -> None:
    """One task asks all its requests at once; they are stored as they come."""
    out = tmp_path / "out"
    running = start(*options, "rows")
    running.wait_until(lambda: len(replies_in(out)) >= 16, "two orders")
    children = children_of(running.process.pid)
    running.kill()
    wait_until(lambda: not any(map(is_running, children)), "the child's end", 20)
    before = replies_in(out)
    assert 16 <= len(before) < N_ROWS
    [file] = (out / "replies").glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    again = start(*options, "rows")
    assert again.ended() == 0, again.said
    assert replies_in(out)[: len(before) - 1] == before[:-1]
    assert len(set(replies_in(out))) == len(replies_in(out)) == N_ROWS
