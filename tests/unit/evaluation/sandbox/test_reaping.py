"""Processes of ended programs are reaped by us: in a container nobody else may do it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedloom.evaluation.sandbox.sandbox import Sandbox

SCRIPT = """
import ctypes, os, sys
from pathlib import Path
ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # orphans are given to this process, which reaps none of them
from fedloom.evaluation.sandbox.program import Program
from fedloom.evaluation.sandbox.sandbox import Sandbox

answers = ["def f(): return 1", "def f(): return 2", "while True: pass", "import os; os._exit(0)", "f = 1 +"]
programs = [Program(answer, "assert f() == 1", ("f",), seconds=1) for answer in answers]
results = Sandbox().run(programs)
mine = []
for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
        state, parent, *_ = stat.read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        continue
    mine += [state] if parent == str(os.getpid()) else []
print(len(mine), [str(result.kind) for result in results])
"""


def test_no_process_of_a_program_is_left_to_others(sandbox: Sandbox) -> None:
    if not Path("/proc").exists():
        pytest.skip("there is no /proc")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "0 ['passed', 'failed', 'timed out', 'failed', 'failed']\n"
