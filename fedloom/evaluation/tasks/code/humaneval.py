"""HumanEval: 164 functions to be written from signature and docstring."""

from pathlib import Path

from fedloom.evaluation.sandbox.program import Program
from fedloom.evaluation.tasks.base import DataFile, Item, Items
from fedloom.evaluation.tasks.code.code_task import CodeTask
from fedloom.evaluation.tasks.code.replies import fenced_code, in_function
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source


class HumanEval(CodeTask):
    """The model goes on after signature and docstring, up to the first line that begins something else."""

    name = "humaneval"
    seconds = 3.0
    n_published = 164
    title = "HumanEval"
    origin = "openai/human-eval, MIT; stop sequences of bigcode-evaluation-harness, Apache-2.0"
    stop = ("\nclass ", "\ndef ", "\n#", "\n@", "\nprint", "\nif ", "\n```")
    files = (
        DataFile(
            "humaneval/HumanEval.jsonl.gz",
            ("b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",),
            164,
            "data/HumanEval.jsonl.gz of openai/human-eval",
            "MIT",
        ),
    )

    def load(self, data: Path) -> Items:
        source = Source(data)
        table = source.table(self.files[0], Columns(texts=("task_id", "prompt", "entry_point", "test")))
        return source.items([Item(row["task_id"], "", row) for row in table.rows], self.n_published)

    def prompt(self, item: Item) -> str:
        return str(item.content["prompt"])

    def question(self, item: Item) -> str:
        ask = "Complete this Python function. Reply with the whole function in one fenced code block."
        return f"{ask}\n\n```python\n{item.content['prompt'].rstrip()}\n```"

    def program(self, item: Item, reply: str) -> Program | None:
        row = item.content
        if not self.in_chat:
            return self.examined(item, row["prompt"] + reply)
        code = fenced_code(reply, row["entry_point"])
        return None if code is None else self.examined(item, in_function(code, row["prompt"], row["entry_point"]))

    def examined(self, item: Item, answer: str) -> Program:
        """An answer with the tests of its item. Helpers that the prompt gives are the tests' own."""
        row = item.content
        tests = f"{row['test']}\ncheck({row['entry_point']})\n"
        return Program(answer, tests, (row["entry_point"],), support=row["prompt"], seconds=self.seconds)
