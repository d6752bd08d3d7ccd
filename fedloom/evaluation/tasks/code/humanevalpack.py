"""HumanEvalPack in Python: a function is fixed (HumanEvalFix) or written (HumanEvalSynthesize)."""

import re
from abc import abstractmethod
from pathlib import Path

from fedloom.evaluation.sandbox.program import Program
from fedloom.evaluation.tasks.base import DataFile, Item, Items
from fedloom.evaluation.tasks.code.code_task import GREEDY, CodeTask, Sampling
from fedloom.evaluation.tasks.code.replies import fenced_code, in_function, indented_part
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source

COLUMNS = Columns(texts=("task_id", "prompt", "declaration", "buggy_solution", "entry_point", "instruction", "test"))

MODULES = "math re sys copy datetime itertools collections heapq statistics functools hashlib string"
PRELUDE = "\n".join(f"import {name}" for name in MODULES.split())
PRELUDE += "\nfrom typing import *\nfrom collections import *\n"
NUMPY = "import numpy\nimport numpy as np\n"
"""Importing it takes longer than most programs, so those alone that name it get it."""


class HumanEvalPack(CodeTask):
    """What fixing and writing share.

    Args:
        shows_docs: whether the prompt has the docstring; without it, the tests are shown.
        in_chat: whether the model is asked in its chat template.
        sampling: how answers are drawn.
    """

    origin = "bigcode-project/octopack, MIT; prompts and stop sequences of bigcode-evaluation-harness, Apache-2.0"
    n_published = 164
    stop = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\nassert")
    files = (
        DataFile(
            "humanevalpack/python/humanevalpack.jsonl",
            ("b1376d72be4bd016a62ad043d9de3846edb8d63edf1222da802a31330c14c3a7",),
            164,
            "the Python part of bigcode/humanevalpack, as JSON lines",
            "MIT",
        ),
    )

    def __init__(self, shows_docs: bool, in_chat: bool = False, sampling: Sampling = GREEDY) -> None:
        self.shows_docs = shows_docs
        super().__init__(in_chat, sampling)

    def load(self, data: Path) -> Items:
        source = Source(data)
        table = source.table(self.files[0], COLUMNS)
        return source.items([Item(row["task_id"], "", row) for row in table.rows], self.n_published)

    def head(self, item: Item) -> str:
        """What the function begins with."""
        return str(item.content["prompt" if self.shows_docs else "declaration"])

    @abstractmethod
    def instruction(self, item: Item) -> str:
        """What is to be done."""

    def prompt(self, item: Item) -> str:
        return f"{self.instruction(item)}\n\n{self.head(item)}".strip()

    def question(self, item: Item) -> str:
        return f"{self.instruction(item)}\n\nReply with the whole function in one fenced code block."

    def program(self, item: Item, reply: str) -> Program | None:
        if not self.in_chat:
            return self.examined(item, self.head(item).rstrip() + indented_part(reply.rstrip()))
        name = item.content["entry_point"]
        code = fenced_code(reply, name)
        return None if code is None else self.examined(item, in_function(code, item.content["prompt"], name))

    def examined(self, item: Item, answer: str) -> Program:
        """An answer with the tests of its item. Helpers that the declaration gives are the tests' own."""
        row = item.content
        needs_numpy = re.search(r"\b(np|numpy)\b", answer) is not None
        return Program(
            answer,
            row["test"],
            (row["entry_point"],),
            support=f"{PRELUDE}{row['declaration'].rstrip()}\n    pass\n",
            prelude=PRELUDE + (NUMPY if needs_numpy else ""),
            libraries=("numpy",) if needs_numpy else (),
            seconds=10.0,
        )


class HumanEvalFix(HumanEvalPack):
    """The function has one bug. Tests show what it should do, or the docstring does."""

    def __init__(self, shows_docs: bool, in_chat: bool = False, sampling: Sampling = GREEDY) -> None:
        self.name = "humanevalfix_docs" if shows_docs else "humanevalfix"
        self.title = "HumanEvalFix (docs)" if shows_docs else "HumanEvalFix"
        super().__init__(shows_docs, in_chat, sampling)

    def instruction(self, item: Item) -> str:
        row = item.content
        tests = "" if self.shows_docs else f"\n{row['test']}"
        return f"{self.head(item)}{row['buggy_solution']}{tests}\nFix bugs in {row['entry_point']}."


class HumanEvalSynthesize(HumanEvalPack):
    """The function is written from an instruction, signature and docstring."""

    name = "humanevalsyn"
    title = "HumanEvalSynthesize"

    def __init__(self, in_chat: bool = False, sampling: Sampling = GREEDY) -> None:
        super().__init__(True, in_chat, sampling)

    def instruction(self, item: Item) -> str:
        return str(item.content["instruction"]).strip()
