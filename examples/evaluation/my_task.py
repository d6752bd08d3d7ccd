"""A task of one's own: questions about the house, answered in one word."""

from collections.abc import Sequence
from pathlib import Path

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate, Text
from fedloom.evaluation.tasks.base import DataFile, Item, Items, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source
from shared.digest import sha256_hex


class HouseQuestions(Task):
    """`house/questions.jsonl` has a question, an answer and a department in each line."""

    name = "house"
    title = "Questions about our house"
    metrics = (TaskMetric("exact", "exact match", "the first word of the reply is the answer, in any case"),)
    files = (DataFile("house/questions.jsonl", where="write it yourself: question, answer and department"),)

    def load(self, data: Path) -> Items:
        """Read the items."""
        source = Source(data)
        table = source.table(self.files[0], Columns(texts=("question", "answer", "department")))
        return source.items([Item(str(number), row["department"], row) for number, row in enumerate(table.rows)], None)

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        """Ask the model all items at once, and score its replies."""
        prompts = [f"Question: {item.content['question']}\nAnswer:" for item in items]
        replies = model.ask([Generate(prompt, stop=("\n",), max_new_tokens=8) for prompt in prompts])
        return [self.outcome(*each) for each in zip(items, prompts, replies, strict=True)]

    def outcome(self, item: Item, prompt: str, reply: Text) -> Outcome:
        """What came of one item."""
        words = reply.text.split()
        is_right = bool(words) and words[0].strip(".,").lower() == item.content["answer"].lower()
        return Outcome(
            item.id,
            item.group,
            values={} if reply.problem else {"exact": float(is_right)},
            problem=reply.problem,
            flags=frozenset() if words else frozenset({"empty"}),
            prompt_sha256=sha256_hex(prompt.encode()),
            reply=reply.text,
        )
