"""What passes between answer and tests, and how tests see an answer."""

import json
from collections import OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.evaluation.sandbox.inside.wire import Unreadable, decode, encode
from fedloom.evaluation.sandbox.program import Kind
from fedloom.evaluation.sandbox.sandbox import Sandbox
from tests.unit.evaluation.sandbox.squares import RIGHT, attempt, program

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    PLAIN | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
    ),
    max_leaves=10,
)


def refuse(value: object) -> Any:
    raise AssertionError(f"{value} is plain")


@given(VALUES)
@settings(max_examples=50, deadline=None)
def test_plain_values_pass_unchanged(value: object) -> None:
    found = decode(json.loads(json.dumps(encode(value, refuse))), refuse)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -(2**63),
        2**63,
        range(3, 9, 2),
        deque([1]),
        OrderedDict(b=1, a=2),
        Decimal("1.50"),
        Fraction(1, 3),
        bytearray(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_built_in_values_pass(value: object) -> None:
    found = decode(encode(value, refuse), refuse)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "data", [["list"], ["list", 3], ["no such kind", []], ["set", [["list", []]]], ["int", "z"], [[]], [1, 2, 3]]
)
def test_what_is_no_value_is_refused(data: list[object]) -> None:
    with pytest.raises(Unreadable):
        decode(data, refuse)


SEEN = {
    "an argument that is changed in place": (
        "def attempt(x): x.sort()",
        "x = [3, 1, 2]\nassert attempt(x) is None and x == [1, 2, 3]",
    ),
    "an exception that is built in": (
        "def attempt(): raise ValueError('no')",
        "try: attempt()\nexcept ValueError as error: assert str(error) == 'no'\nelse: raise AssertionError",
    ),
    "objects of its own classes": (
        "class Node:\n    def __init__(self, x): self.x, self.left = x, None\ndef attempt(n): return n.x + n.left.x",
        "root = Node(1)\nroot.left = Node(2)\nassert root.x == 1 and attempt(root) == 3",
    ),
    "a generator": ("def attempt():\n    while True: yield 7", "it = attempt()\nassert [next(it), next(it)] == [7, 7]"),
    "a list of a generator": ("def attempt(): yield from 'ab'", "assert list(attempt()) == ['a', 'b']"),
    "a counter": (
        "import collections\ndef attempt(): return collections.Counter('aab')",
        "assert attempt() == {'a': 2, 'b': 1}",
    ),
    "a named tuple": (
        "import collections\ndef attempt(): return collections.namedtuple('P', 'x y')(1, 2)",
        "assert attempt() == (1, 2)",
    ),
    "names of arguments": ("def attempt(a, *, b): return a - b", "assert attempt(5, b=3) == attempt(b=3, a=5) == 2"),
    "a constant": ("attempt = [1, 2]", "assert attempt == [1, 2]"),
    "truth as such": ("def attempt(): return True", "assert attempt() is True"),
    "a class with a method": ("class attempt:\n    def two(self): return 2", "assert attempt().two() == 2"),
    "dataclasses": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 1\ndef attempt(): return A().x",
        "assert attempt() == 1",
    ),
    "input is at its end": (
        "def attempt():\n    try: return input()\n    except EOFError: return 'end'",
        "assert attempt() == 'end'",
    ),
    "not run as a script": (
        "def attempt(): return 1\nif __name__ == '__main__': attempt = None",
        "assert attempt() == 1",
    ),
}


@pytest.mark.parametrize(("answer", "tests"), SEEN.values(), ids=SEEN.keys())
def test_tests_see_an_answer_as_if_it_stood_beside_them(sandbox: Sandbox, answer: str, tests: str) -> None:
    names = ("attempt", "Node") if "Node" in tests else ("attempt",)
    (result,) = sandbox.run([attempt(answer, tests).__class__(answer, tests, names, seconds=20.0)])
    assert result.kind is Kind.PASSED, result


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("def square(x): return None", "AssertionError"),
        ("def square(x): return x.y", "AttributeError: 'int' object has no attribute 'y'"),
        ("class Mine(Exception): pass\ndef square(x): raise Mine('so')", "AnswerRaised: Mine: so"),
        ("def cube(x): return 1", "NameError: the answer does not define square"),
        ("def square(x): return square(x)", "RecursionError: maximum recursion depth exceeded"),
        ("def square(x):\n    y = []\n    y.append(y)\n    return y", "RecursionError"),
        ("import nonexistent", "ModuleNotFoundError: No module named 'nonexistent'"),
    ],
)
def test_a_failure_says_why(sandbox: Sandbox, answer: str, detail: str) -> None:
    (result,) = sandbox.run([program(answer)])
    assert result.kind is Kind.FAILED
    assert result.detail.startswith(detail)


def test_what_an_answer_prints_is_kept(sandbox: Sandbox) -> None:
    (result,) = sandbox.run([program(f"print('hello')\n{RIGHT}")])
    assert (result.kind, result.output) == (Kind.PASSED, "hello\n")


def test_the_same_program_does_the_same_again(sandbox: Sandbox) -> None:
    """The order of a set of texts is that of hashes, whose seed is fixed."""
    told = "print(list({'a', 'b', 'c', 'd', 'e'}))\n" + RIGHT
    results = sandbox.run([program(told)] * 3)
    assert len({result.output for result in results}) == 1
