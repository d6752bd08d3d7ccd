"""DS-1000: completions of data science code, with the execution harness that each row brings."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

from fedloom.evaluation.sandbox.limits import DATA_SCIENCE
from fedloom.evaluation.sandbox.program import WholeProgram
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items
from fedloom.evaluation.tasks.code.code_task import CodeTask
from fedloom.evaluation.tasks.code.replies import fenced_code
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source

STOPS = ("</code>", "# SOLUTION END")
IMPORTS = re.compile(r"^\s*(?:import|from)\s+([A-Za-z_]\w*)", re.MULTILINE)


class Ds1000(CodeTask):
    """Each row's ``code_context`` tests an answer in the answer's own process, so it is a ``WholeProgram``."""

    name = "ds1000"
    title = "DS-1000"
    origin = "xlang-ai/DS-1000, CC BY-SA 4.0"
    n_published = 1000
    stop = STOPS
    max_new_tokens = 1024
    limits = DATA_SCIENCE
    files = (
        DataFile(
            "ds1000/test.jsonl",
            n_rows=1000,
            where="test.jsonl of xlangai/DS-1000",
            licence="CC BY-SA 4.0",
            also=("ds1000/ds1000.jsonl.gz",),
        ),
    )

    def load(self, data: Path) -> Items:
        source = Source(data)
        table = source.table(self.files[0], Columns(texts=("prompt", "code_context"), values=("metadata",)))
        items = []
        for index, row in enumerate(table.rows):
            about = row["metadata"]
            if not isinstance(about, dict) or "problem_id" not in about or "library" not in about:
                raise BadData(f"{table.place(index)}: metadata has no problem_id or no library")
            if "def test_execution(" not in row["code_context"]:
                message = f"{table.place(index)}: code_context defines no test_execution; is it the edition of 2024?"
                raise BadData(message)
            items.append(Item(str(about["problem_id"]), str(about["library"]), row))
        return source.items(items, self.n_published)

    def prompt(self, item: Item) -> str:
        return str(item.content["prompt"])

    def question(self, item: Item) -> str:
        ask = "Write the code that is missing. Reply with that part alone, in one fenced code block."
        return f"{ask}\n\n{item.content['prompt']}"

    def problem(self, item: Item) -> str:
        lacks = [name for name in libraries_of(item.content["code_context"]) if find_spec(name) is None]
        return f"needs {', '.join(lacks)}" if lacks else ""

    def program(self, item: Item, reply: str) -> WholeProgram | None:
        code = fenced_code(reply) or reply if self.in_chat else reply
        for stop in STOPS:
            code = code.split(stop)[0]
        for start in ("BEGIN SOLUTION\n<code>", "# SOLUTION START"):
            code = code.split(start, 1)[-1]
        return self.examined(item, code.strip("\n"))

    def examined(self, item: Item, answer: str) -> WholeProgram:
        """An answer in the harness of its row, as the set's own evaluation puts it."""
        context = item.content["code_context"]
        calls = [f"answer = {answer!r}", "test_execution(answer)"]
        calls += ["test_string(answer)"] if "def test_string(" in context else []
        return WholeProgram("\n".join([context, *calls]), tuple(libraries_of(context)))


def libraries_of(context: str) -> list[str]:
    """What a row's harness imports beside the standard library, within its strings too."""
    names = dict.fromkeys(IMPORTS.findall(context))
    return [name for name in names if name not in sys.stdlib_module_names and name != "__future__"]
