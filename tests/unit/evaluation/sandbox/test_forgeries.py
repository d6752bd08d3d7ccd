"""Answers that want to pass without being right do not."""

import json

import pytest

from fedloom.evaluation.sandbox.program import Kind, WholeProgram
from fedloom.evaluation.sandbox.sandbox import Sandbox
from tests.unit.evaluation.sandbox.squares import RIGHT, program

TOKEN = "0123456789abcdef0123456789abcdef"
"""What the token is in these tests, so that an answer can be given what it could not guess."""

FORGERIES = {
    "os._exit before the tests": "import os\nos._exit(0)",
    "sys.exit before the tests": "import sys\nsys.exit(0)",
    "os._exit in the function": "import os\ndef square(x): os._exit(0)",
    "sys.exit in the function": "import sys\ndef square(x): sys.exit(0)",
    "printing the token": f"print('{TOKEN}', flush=True)\ndef square(x): return 0",
    "printing at exit": f"import atexit\natexit.register(print, '{TOKEN}')\ndef square(x): return 0",
    "equal to everything": """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def square(x): return Equal()
""",
    "a number equal to everything": """
class Equal(int):
    def __eq__(self, other): return True
    def __hash__(self): return 0
def square(x): return Equal(0)
""",
    "a text equal to everything": """
class Equal(str):
    def __eq__(self, other): return True
    def __hash__(self): return 0
def square(x): return Equal("")
""",
    "a class that says it is a number": """
class Equal:
    __class__ = int
    def __int__(self): return 0
    def __eq__(self, other): return True
    def __lt__(self, other): return False
    def __le__(self, other): return True
def square(x): return Equal()
""",
    "no asserts any more": """
import builtins, sys
builtins.AssertionError = type("Quiet", (BaseException,), {"__new__": lambda *_: sys.exit(0)})
def square(x): return 0
""",
    "a tracer that skips lines": """
import sys
def trace(frame, event, argument): return trace
sys.settrace(trace)
def square(x): return 0
""",
    "frames, and all objects of the collector": """
import gc, sys
def square(x):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()):
            if isinstance(value, dict) and "token" in value: print(value["token"])
        frame = frame.f_back
    for found in gc.get_objects():
        if isinstance(found, dict) and "tests" in found: print(found["tests"])
    return 0
""",
    "reading its own source again": """
import os, sys
os.lseek(0, 0, 0)
source = os.read(0, 10**6).decode()
assert "assert square" not in source and "token" not in source, "the tests can be seen"
def square(x): return 0
""",
    "a child that answers for it": """
import os
def square(x):
    if os.fork() == 0: return 0
    os.wait()
    return 0
""",
    "a thread that answers first": """
import threading, os
def square(x):
    for descriptor in range(3, 64):
        try: os.write(descriptor, b'["value", 4, []]\\n')
        except OSError: pass
    return 0
""",
    "a reply that is none": """
import os
for descriptor in range(3, 64):
    try: os.write(descriptor, b'nonsense\\n')
    except OSError: pass
""",
    "a reply nested too deeply": """
import os
for d in range(3, 64):
    try: os.write(d, b'[' * 10**5 + b'\\n')
    except OSError: pass
def square(x): return 0
""",
    "wrong": "def square(x): return x",
    "no function": "pass",
    "no Python": "def square(x) return x",
}


@pytest.fixture(autouse=True)
def known_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedloom.evaluation.sandbox.sandbox.secrets.token_hex", lambda _: TOKEN)


@pytest.mark.parametrize("answer", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forgery_fails(sandbox: Sandbox, answer: str) -> None:
    (result,) = sandbox.run([program(answer)])
    assert result.kind is Kind.FAILED, result


def test_who_knows_the_token_cannot_hand_it_in(sandbox: Sandbox) -> None:
    """The answer writes the very verdict to every descriptor that it has, for as long as it runs."""
    verdict = json.dumps(["passed", TOKEN]) + "\n"
    write = f"""
import os
def spread():
    for descriptor in range(64):
        try: os.write(descriptor, {verdict.encode()!r})
        except OSError: pass
"""
    early = program(f"{write}\nspread()\ndef square(x): return 0")
    late = program(f"{write}\ndef square(x):\n    spread()\n    return 0")
    assert [result.kind for result in sandbox.run([early, late])] == [Kind.FAILED, Kind.FAILED]


def test_what_the_tests_use_is_not_the_answers(sandbox: Sandbox) -> None:
    """A helper that the set gives, a built-in and a module are the tests' own, whatever the answer makes of them."""
    answer = "import builtins, math\nabs = builtins.abs = math.floor = half = lambda *_: 0\ndef square(x): return 1"
    tests = "import math\nassert half(abs(square(2) - math.floor(4.5))) == 0"
    (result,) = sandbox.run([program(answer, tests, support="def half(x): return x / 2")])
    assert (result.kind, result.detail) == (Kind.FAILED, "AssertionError")


def test_a_right_answer_passes(sandbox: Sandbox) -> None:
    """Else the tests above could not fail."""
    (result,) = sandbox.run([program(RIGHT)])
    assert result.kind is Kind.PASSED, result


@pytest.mark.parametrize(
    "ending",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        f"print('{TOKEN}'); raise SystemExit",
        "raise KeyboardInterrupt",
    ],
)
def test_a_whole_program_that_ends_early_fails(sandbox: Sandbox, ending: str) -> None:
    early, late = WholeProgram(f"{ending}\nassert 1 == 2", seconds=20), WholeProgram("assert 1 == 1", seconds=20)
    assert [result.kind for result in sandbox.run([early, late])] == [Kind.FAILED, Kind.PASSED]


def test_a_whole_program_cannot_blame_the_sandbox(sandbox: Sandbox) -> None:
    """A harness error would take the item out of the number."""
    blame = 'import os\nfor d in range(3, 64):\n  try: os.write(d, b\'["broken", ""]\\n\')\n  except OSError: pass\n'
    (result,) = sandbox.run([WholeProgram(f"{blame}assert False", seconds=20)])
    assert result.kind is Kind.FAILED
