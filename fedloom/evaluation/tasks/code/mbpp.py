"""MBPP: short programs from one sentence and three tests, in the format of its paper; and its sanitized edition."""

import ast
from pathlib import Path
from typing import Any

from fedloom.evaluation.sandbox.program import Program
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items
from fedloom.evaluation.tasks.code.code_task import GREEDY, CodeTask, Sampling
from fedloom.evaluation.tasks.code.replies import fenced_code, parsed
from fedloom.evaluation.tasks.files.columns import Columns, Row
from fedloom.evaluation.tasks.files.source import Source, Table

SHOTS = (2, 3, 4)
SECONDS = 20.0
"""The slowest reference takes 3 s on a processor of its own, and several run side by side."""
TEST = range(11, 511)
"""Ids of the test; 1 to 10 are for prompts, the others for validation and training."""

FULL = DataFile(
    "mbpp/mbpp.jsonl",
    n_rows=974,
    where="mbpp/mbpp.jsonl of google-research",
    licence="CC BY 4.0",
)
SANITIZED = DataFile(
    "mbpp/sanitized-mbpp.json",
    n_rows=427,
    where="mbpp/sanitized-mbpp.json of google-research",
    licence="CC BY 4.0",
)


class Mbpp(CodeTask):
    """Three solved problems, then one to solve.

    Args:
        is_sanitized: whether it is the edition that its authors checked by hand.
        in_chat: whether the model is asked in its chat template, without the solved problems.
        sampling: how answers are drawn.
    """

    origin = "google-research/mbpp, CC BY 4.0; prompt of Austin et al. 2021"
    stop = ("[DONE]",)

    def __init__(self, is_sanitized: bool = False, in_chat: bool = False, sampling: Sampling = GREEDY) -> None:
        self.name = "mbpp_sanitized" if is_sanitized else "mbpp"
        self.title = "MBPP sanitized" if is_sanitized else "MBPP"
        self.files = (SANITIZED if is_sanitized else FULL,)
        self.shots = 0 if in_chat else len(SHOTS)
        self._text = "prompt" if is_sanitized else "text"
        self.n_published = 257 if is_sanitized else 500
        super().__init__(in_chat, sampling)

    def load(self, data: Path) -> Items:
        source = Source(data)
        table = source.table(self.files[0], Columns(texts=(self._text, "code"), values=("task_id", "test_list")))
        for index, row in enumerate(table.rows):
            if not isinstance(row["task_id"], int) or not isinstance(row["test_list"], list):
                raise BadData(f"{table.place(index)}: task_id is no number, or test_list no list")
        shots = "" if self.in_chat else "".join(self._solved(row) for row in self._shots(table))
        items = [
            Item(str(row["task_id"]), "", {**self._checked(row, table.place(index)), "shots": shots})
            for index, row in enumerate(table.rows)
            if row["task_id"] in TEST
        ]
        return source.items(items, self.n_published)

    def _shots(self, table: Table) -> list[Row]:
        found = {row["task_id"]: row for row in table.rows}
        lacks = [each for each in SHOTS if each not in found]
        if lacks:
            raise BadData(f"{table.path} lacks the rows {lacks}, which are the solved problems of the prompt")
        return [found[each] for each in SHOTS]

    def _checked(self, row: Row, place: str) -> dict[str, Any]:
        setup = str(row.get("test_setup_code") or "").replace("\r\n", "\n")
        tests = [str(test) for test in row["test_list"]]
        names = names_in_tests(row, "\n".join([setup, *tests]), place)
        if not tests or not names:
            raise BadData(f"{place}: the tests test nothing that the code defines")
        return {**row, "setup": setup, "names": names}

    def _asked(self, row: Row) -> str:
        tests = "\n".join(row["test_list"])
        return (
            f"You are an expert Python programmer, and here is your task: {row[self._text]} "
            f"Your code should pass these tests:\n\n{tests}\n"
        )

    def _solved(self, row: Row) -> str:
        return f"{self._asked(row)}[BEGIN]\n{str(row['code']).replace(chr(13), '').rstrip()}\n[DONE]\n\n"

    def prompt(self, item: Item) -> str:
        return f"{item.content['shots']}{self._asked(item.content)}[BEGIN]\n"

    def question(self, item: Item) -> str:
        return f"{self._asked(item.content)}\nReply with one fenced code block."

    def program(self, item: Item, reply: str) -> Program | None:
        if not self.in_chat:
            return self.examined(item, reply)
        code = fenced_code(reply, item.content["names"][0])
        return None if code is None else self.examined(item, code)

    def examined(self, item: Item, answer: str) -> Program:
        """An answer with the tests of its item, all of which must pass."""
        row = item.content
        tests = "\n".join([row["setup"], *row["test_list"]])
        support = "\n".join(row.get("test_imports") or [])
        return Program(answer.replace("\r\n", "\n"), tests, tuple(row["names"]), support=support, seconds=SECONDS)


def names_in_tests(row: Row, tests: str, place: str) -> tuple[str, ...]:
    """The names that tests take from an answer: those that the reference defines. Raises BadData.

    Returns:
        names, the one that the first test calls first.
    """
    try:
        used = [node.id for node in ast.walk(parsed(tests)) if isinstance(node, ast.Name)]
        body = parsed(str(row["code"]).replace("\r\n", "\n")).body
    except (SyntaxError, ValueError) as error:
        raise BadData(f"{place}: code or tests are no Python ({type(error).__name__})") from None
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    defined |= {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    found = [name for name in dict.fromkeys(used) if name in defined]
    return tuple(sorted(found, key=lambda name: name not in functions))
