"""The code in a reply. A base model goes on after the prompt; a chat model answers with a fenced block."""

import ast
import re
import textwrap
import warnings

FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
CODE_BEGINS = re.compile(r"^(?:import|from|def|class|async def|@)\b|^@", re.MULTILINE)


def fenced_code(reply: str, name: str = "") -> str | None:
    """The code of a chat reply.

    Args:
        reply: what the model said.
        name: what the code should define: the first block that does is taken, else the first block.

    Returns:
        the code; None if the reply has none.
    """
    blocks = [textwrap.dedent(found[2]) for found in FENCE.finditer(reply)]
    defining = [block for block in blocks if name and defines(block, name)]
    if defining or blocks:
        return (defining or blocks)[0]
    return _bare_code(reply) if name and defines(reply, name) else None


def defines(code: str, name: str) -> bool:
    """Whether code defines a function, a class or a variable of this name, at its left margin."""
    return (
        re.search(rf"^(?:(?:async )?def|class) {re.escape(name)}\b|^{re.escape(name)}\s*=", code, re.MULTILINE)
        is not None
    )


def parses(code: str) -> bool:
    """Whether code is Python."""
    try:
        parsed(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def parsed(code: str) -> ast.Module:
    """The tree of code, without a warning for each odd escape in it. Raises SyntaxError, ValueError and others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def in_function(code: str, prompt: str, name: str) -> str:
    """A chat reply's code as a module. Its body stands in it once, whether the reply repeats the signature or not.

    Args:
        code: the fenced block.
        prompt: imports, helpers, and the function's signature, whose body is to be written.
        name: the function.
    """
    if defines(code, name):
        return f"{before(prompt, name)}\n{code}"
    body = f"{prompt.rstrip()}\n{textwrap.indent(textwrap.dedent(code), '    ')}"
    return body if parses(body) else code


def before(prompt: str, name: str) -> str:
    """What a prompt has before a function: imports and helpers. All of it if it has no such function."""
    found = re.search(rf"^def {re.escape(name)}\b", prompt, re.MULTILINE)
    return prompt[: found.start()] if found else prompt


def indented_part(completion: str) -> str:
    """A completion up to its first line that is not indented, which no longer belongs to the function."""
    lines = completion.split("\n")
    for index, line in enumerate(lines):
        if index and line.strip() and line[0] not in " \t":
            return "\n".join(lines[:index])
    return completion


def _bare_code(reply: str) -> str:
    """The code of a reply without fences: from where it begins, without what follows it in prose."""
    found = CODE_BEGINS.search(reply)
    lines = reply[found.start() if found else 0 :].split("\n")
    for end in range(len(lines), 0, -1):
        if parses("\n".join(lines[:end])):
            return "\n".join(lines[:end])
    return "\n".join(lines)
