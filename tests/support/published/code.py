"""The sets of code."""

import json
from pathlib import Path
from typing import Any

from tests.support.published import files

PROMPT = (
    'import math\n\n\ndef half(x):\n    return x / 2\n\n\ndef area(r: float) -> float:\n    """Area of a circle."""\n'
)
BODY = "    return math.pi * r ** 2\n"
CHECK = "\n\ndef check(candidate):\n    assert abs(candidate(1) - 3.14159) < 1e-4\n    assert half(candidate(0)) == 0\n"

HUMANEVAL: list[dict[str, Any]] = [
    {"task_id": f"HumanEval/{n}", "prompt": PROMPT, "entry_point": "area", "canonical_solution": BODY, "test": CHECK}
    for n in range(2)
]
PACK: list[dict[str, Any]] = [
    {
        "task_id": "Python/0",
        "prompt": PROMPT,
        "declaration": PROMPT.split('    """')[0],
        "canonical_solution": BODY,
        "buggy_solution": "    return math.pi * r + 1\n",
        "entry_point": "area",
        "instruction": "Write a Python function `area(r: float) -> float` to solve the following problem:\nArea.",
        "test": CHECK.replace("candidate", "area") + "\ncheck(area)",
    }
]
MBPP: list[dict[str, Any]] = [
    {
        "text": f"Write a function to add {n}.",
        "code": f"def add(x):\r\n  return x + {n}",
        "task_id": n,
        "test_setup_code": "",
        "test_list": [f"assert add({k}) == {n + k}" for k in range(3)],
        "challenge_test_list": [],
    }
    for n in (2, 3, 4, 11, 12, 600)
]
SANITIZED: list[dict[str, Any]] = [
    {
        "source_file": "made up",
        "task_id": row["task_id"],
        "prompt": row["text"],
        "code": row["code"],
        "test_imports": ["import math"],
        "test_list": [f"assert math.isclose(add(1), {row['task_id'] + 1})"],
    }
    for row in MBPP
]
DS1000: list[dict[str, Any]] = [
    {
        "prompt": f"Problem:\nDouble it.\nA:\n<code>\nimport {library}\na = 1\n</code>\nBEGIN SOLUTION\n<code>\n",
        "reference_code": "result = a * 2",
        "code_context": f'''
import {library}
exec_context = r"""
import {library}
a = test_input
[insert]
"""
def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    names = {{"test_input": 3}}
    exec(code, names)
    assert names["result"] == 6
def test_string(solution: str):
    assert "for" not in solution
''',
        "metadata": {"problem_id": number, "library": shown, "library_problem_id": 0},
    }
    for number, (library, shown) in enumerate([("numpy", "Numpy"), ("no_such_library", "Tensorflow")])
]
CONALA = [
    {"intent": "sum it", "rewritten_intent": "sum list `x`", "snippet": "sum(x)", "question_id": 7},
    {"intent": "sort it", "rewritten_intent": None, "snippet": "sorted(x)", "question_id": 7},
]
CONCODE = [
    {
        "code": "int function ( ) { return total ; }",
        "nl": "Gets the total . concode_field_sep int total concode_elem_sep int size concode_field_sep void clear",
    }
]


def write(data: Path, path: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the file of a set: JSON, or JSON lines."""
    is_list = path.startswith(("mbpp/sanitized", "conala"))
    return files.write(data / path, json.dumps(rows) if is_list else "".join(f"{json.dumps(row)}\n" for row in rows))


def humaneval(data: Path) -> Path:
    write(data, "humaneval/HumanEval.jsonl.gz", HUMANEVAL)
    return data


def humanevalpack(data: Path) -> Path:
    write(data, "humanevalpack/python/humanevalpack.jsonl", PACK)
    return data


def mbpp(data: Path) -> Path:
    write(data, "mbpp/mbpp.jsonl", MBPP)
    write(data, "mbpp/sanitized-mbpp.json", SANITIZED)
    return data


def ds1000(data: Path) -> Path:
    write(data, "ds1000/test.jsonl", DS1000)
    return data


def conala(data: Path) -> Path:
    write(data, "conala/conala-test.json", CONALA)
    return data


def concode(data: Path) -> Path:
    write(data, "concode/dev.json", CONCODE)
    return data
