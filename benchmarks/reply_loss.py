"""A task of one's own: the loss on replies that nobody trained on, in each of several domains.

``reply_loss/rows.jsonl`` has ``domain``, ``instruction``, ``input`` (may be empty) and ``output`` in each line. A loss
tells small models apart where none of them solves anything.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Likelihood, Scored
from fedloom.evaluation.tasks.base import DataFile, Item, Items, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns, Row
from fedloom.evaluation.tasks.files.source import Source
from shared.digest import sha256_of_parts

DOMAINS = ("general", "math", "code", "finance")
_RULE = "negative log-likelihood of a token of the replies after Alpaca's prompt, in nats"
_OPENING = "Below is an instruction that describes a task"
_COMPLETE = "Write a response that appropriately completes the request."


class ReplyLoss(Task):
    """The mean over tokens, so that long replies count more: of all domains together, and of each."""

    name = "reply_loss"
    title = "Loss on replies"
    origin = "prompt of Alpaca (Taori et al. 2023)"
    files = (DataFile("reply_loss/rows.jsonl", where="benchmarks/four_domains.py writes it", licence="of its sources"),)
    metrics = (
        TaskMetric("all", "loss, all domains", _RULE, "corpus", best=-1, is_share=False),
        *(TaskMetric(each, f"loss, {each}", _RULE, "corpus", best=-1, is_share=False) for each in DOMAINS),
    )

    def load(self, data: Path) -> Items:
        """The rows. Raises DataMissing and BadData."""
        source = Source(data)
        table = source.table(self.files[0], Columns(texts=("domain", "instruction", "output"), values=("input",)))
        return source.items([_item(number, row) for number, row in enumerate(table.rows)], None)

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        """Raises what the model raises."""
        prompts = [prompt_of(item.content["instruction"], item.content["input"]) for item in items]
        replies = [item.content["output"] for item in items]
        # apart: the line break that ends a prompt is no part of the reply, and no training teaches it
        scored = model.ask([Likelihood(*each, apart=True) for each in zip(prompts, replies, strict=True)])
        return [_outcome(*each) for each in zip(items, prompts, scored, strict=True)]

    def compute(self, metric: TaskMetric, outcomes: Sequence[Outcome]) -> float:
        """Σ over the replies of the metric's domain before the division. Infinite without such replies."""
        counted = [outcome.values for outcome in outcomes if metric.name in ("all", outcome.group)]
        n_tokens = math.fsum(values["n_tokens"] for values in counted)
        return -math.fsum(values["log_prob"] for values in counted) / n_tokens if n_tokens else math.inf


def prompt_of(instruction: str, further: str) -> str:
    """The text before a reply, as the template ``alpaca`` has it. further: the input of the row, empty if none."""
    if not further:
        return f"{_OPENING}. {_COMPLETE}\n\n### Instruction:\n{instruction}\n\n### Response:\n"
    opening = f"{_OPENING}, paired with an input that provides further context. {_COMPLETE}"
    return f"{opening}\n\n### Instruction:\n{instruction}\n\n### Input:\n{further}\n\n### Response:\n"


def _item(number: int, row: Row) -> Item:
    """An item. ``question`` is what is looked for in training rows: there is one instruction for all news."""
    question = f"{row['instruction']}\n{row['input']}".strip()
    return Item(str(number), row["domain"], {"question": question, **row})


def _outcome(item: Item, prompt: str, scored: Scored) -> Outcome:
    digest = sha256_of_parts([prompt, item.content["output"]])
    if scored.problem:
        return Outcome(item.id, item.group, problem=scored.problem, prompt_sha256=digest)
    values = {"log_prob": scored.log_prob, "n_tokens": float(scored.n_tokens)}
    return Outcome(item.id, item.group, values, texts=("", ""), prompt_sha256=digest)
