"""The code in a reply, in the forms in which models give it."""

import pytest

from fedloom.evaluation.tasks.code.replies import fenced_code, in_function, indented_part

PROMPT = 'from typing import List\n\n\ndef help(x):\n    return x\n\n\ndef f(x: List[int]) -> int:\n    """Sum."""\n'
WHOLE = "def f(x):\n    return sum(x)\n"

BLOCKS = {
    "a block": (f"Here:\n```python\n{WHOLE}```\nDone.", WHOLE),
    "no language": (f"```\n{WHOLE}```", WHOLE),
    "a block that is cut off": (f"```python\n{WHOLE}", WHOLE),
    "the block that defines it": (f"```bash\npip install x\n```\n```python\n{WHOLE}```", WHOLE),
    "the first that defines it": (f"```python\n{WHOLE}```\nOr:\n```python\ndef f(x): return 0\n```", WHOLE),
    "an indented block": ("1. Do:\n   ```python\n   def f(x):\n       return sum(x)\n   ```", WHOLE),
    "tildes": (f"~~~python\n{WHOLE}~~~", WHOLE),
    "backticks in a text": ('```python\ndef f(x):\n    return "```"\n```', 'def f(x):\n    return "```"\n'),
    "only a body": ("```python\n    return sum(x)\n```", "return sum(x)\n"),
    "code without fences": (f"Sure!\n{WHOLE}\nThis sums it.", WHOLE.rstrip() + "\n"),
    "an empty block": ("```python\n```", ""),
}


@pytest.mark.parametrize(("reply", "code"), BLOCKS.values(), ids=BLOCKS.keys())
def test_the_code_of_a_chat_reply(reply: str, code: str) -> None:
    assert fenced_code(reply, "f") == code


@pytest.mark.parametrize("reply", ["", "I cannot do that.", "Use the sum function.", "The def of f is simple"])
def test_a_reply_without_code(reply: str) -> None:
    assert fenced_code(reply, "f") is None


@pytest.mark.parametrize("code", [WHOLE, "return sum(x)\n", "    return sum(x)\n", "y = sum(x)\nreturn y\n"])
def test_the_body_stands_in_the_module_once(code: str) -> None:
    names: dict[str, object] = {}
    module = in_function(code, PROMPT, "f")
    exec(module, names)
    assert names["f"]([1, 2]) == 3  # type: ignore[operator]
    assert (module.count("def f("), module.count("def help("), module.count("sum(x)")) == (1, 1, 1)


def test_imports_and_helpers_of_the_prompt_are_there() -> None:
    module = in_function("def f(x: List[int]) -> int:\n    return help(sum(x))\n", PROMPT, "f")
    names: dict[str, object] = {}
    exec(module, names)
    assert names["f"]([1, 2]) == 3  # type: ignore[operator]


@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        ("\n    return 1\n\nprint(2)", "\n    return 1\n"),
        ("\n    a = 1\n\n    return a", "\n    a = 1\n\n    return a"),
        ("\n\treturn 1\ndef g(): pass", "\n\treturn 1"),
        (" return 1", " return 1"),
        ("", ""),
    ],
)
def test_a_completion_ends_at_the_first_line_that_is_not_indented(completion: str, kept: str) -> None:
    assert indented_part(completion) == kept
