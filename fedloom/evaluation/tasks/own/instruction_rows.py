"""Rows of a prompt and its completion, of one's own: exact match and ROUGE-L of greedy replies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns, Row
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.fitting import too_long
from fedloom.evaluation.tasks.flags import flags_of
from fedloom.evaluation.tasks.own.rouge import rouge_l, tokens_of
from shared.digest import sha256_hex


class InstructionRows(Task):
    """A file with ``prompt`` and ``completion``, or ``instruction``, ``input`` (may be empty) and ``output``. A column
    ``group`` is optional.

    Args:
        in_chat: ask in the model's chat template; otherwise the prompt is the text before the reply, as it is.
        path: of the file, below the folder of evaluation data.
        max_new_tokens: most tokens of a reply.
    """

    origin = "ROUGE-L as in rouge-score (Google Research, Apache-2.0)"
    metrics = (
        TaskMetric("exact", "exact match", "the reply is the completion, without white space around either"),
        TaskMetric("rouge_l", "ROUGE-L", "F1 of the longest common subsequence of words a-z and 0-9, no stemmer"),
    )

    def __init__(self, in_chat: bool = False, path: str = "rows/test.jsonl", max_new_tokens: int = 256) -> None:
        self.name = "rows_chat" if in_chat else "rows"
        self.title = "Own rows (chat template)" if in_chat else "Own rows"
        self.files = (DataFile(path, where="rows of your own, with prompt and completion", licence="your own"),)
        self.in_chat = in_chat
        self._max_new_tokens = max_new_tokens

    def load(self, data: Path) -> Items:
        source = Source(data)
        table = source.table(self.files[0], Columns())
        return source.items([_item(index, row, table.place(index)) for index, row in enumerate(table.rows)], None)

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        prompts = [self._prompt(item, model) for item in items]
        lengths = model.count_tokens(prompts)
        needed = [n_tokens + 1 + self._max_new_tokens for n_tokens in lengths]
        most = model.facts.n_positions
        fits = [most is None or n_positions <= most for n_positions in needed]
        asked = [prompt for prompt, is_fit in zip(prompts, fits, strict=True) if is_fit]
        replies = iter(model.ask([Generate(prompt, max_new_tokens=self._max_new_tokens) for prompt in asked]))
        outcomes = []
        for item, prompt, n_positions, is_fit in zip(items, prompts, needed, fits, strict=True):
            if not is_fit:
                outcomes.append(Outcome(item.id, item.group, problem=too_long(n_positions, model)))
                continue
            reply = next(replies)
            outcomes.append(
                Outcome(
                    item.id,
                    item.group,
                    values=_values(item.content["completion"], reply.text),
                    flags=flags_of(reply),
                    prompt_sha256=sha256_hex(prompt.encode()),
                    reply=reply.text,
                    problem=reply.problem,
                )
            )
        return outcomes

    def _prompt(self, item: Item, model: Model) -> str:
        prompt: str = item.content["prompt"]
        return model.chat_prompt([{"role": "user", "content": prompt}]) if self.in_chat else prompt


def _values(completion: str, reply: str) -> dict[str, float]:
    """ROUGE-L is left out where the completion has no word that it counts: 0 would be no score of the reply."""
    values = {"exact": float(reply.strip() == completion.strip())}
    return {**values, "rouge_l": rouge_l(completion, reply)} if tokens_of(completion) else values


def _item(index: int, row: Row, where: str) -> Item:
    if row.get("prompt") is not None:
        prompt, completion = _text(row, "prompt", where), _text(row, "completion", where)
    else:
        prompt, completion = _text(row, "instruction", where), _text(row, "output", where)
        if row.get("input"):
            prompt = f"{prompt}\n\n{_text(row, 'input', where)}"
    if not prompt.strip() or not completion.strip():
        raise BadData(f"{where}: the prompt or the completion is empty")
    return Item(str(index), str(row.get("group") or ""), {"prompt": prompt, "completion": completion})


def _text(row: Row, column: str, where: str) -> str:
    value: Any = row.get(column)
    if not isinstance(value, str):
        raise BadData(f"{where} has no text as {column}")
    return value
