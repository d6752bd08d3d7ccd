"""Perplexity of a model on texts of one's own."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Rolling, Scored
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.finding import LAYOUTS
from fedloom.evaluation.tasks.files.source import Source
from shared.digest import sha256_hex

_FILE = DataFile(
    "perplexity/texts.txt",
    where="a text of your own, or texts.jsonl with a column text; each row is one document",
    licence="your own",
    also=tuple(f"perplexity/texts{layout}" for layout in LAYOUTS),
)
_RULE = "exp of the mean negative log-likelihood"


class Perplexity(Task):
    """Each document is read from its beginning, in windows as long as the model takes."""

    name = "perplexity"
    title = "perplexity"
    origin = "rules of lm-evaluation-harness (MIT)"
    files = (_FILE,)
    metrics = (
        TaskMetric(
            "word_perplexity",
            "perplexity, words",
            f"{_RULE} of words between white space",
            "corpus",
            best=-1,
            is_share=False,
        ),
        TaskMetric(
            "byte_perplexity", "perplexity, bytes", f"{_RULE} of bytes of UTF-8", "corpus", best=-1, is_share=False
        ),
        TaskMetric(
            "bits_per_byte",
            "bits per byte",
            "negative log-likelihood of a byte of UTF-8 in bits",
            "corpus",
            best=-1,
            is_share=False,
        ),
        TaskMetric(
            "token_perplexity",
            "perplexity, tokens",
            f"{_RULE} of tokens, so only for models with the same tokenizer",
            "corpus",
            best=-1,
            is_share=False,
        ),
    )

    def load(self, data: Path) -> Items:
        """The documents. Raises DataMissing and BadData."""
        source = Source(data)
        if source.path(_FILE) == _FILE.path:
            texts = [source.text(_FILE)]
        else:
            texts = [row["text"] for row in source.table(_FILE, Columns(texts=("text",))).rows]
        items = [Item(str(number), "", {"text": text}) for number, text in enumerate(texts) if text.strip()]
        if not items:
            raise BadData(f"{source.path(_FILE)} has no text")
        return source.items(items, None)

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        """Raises what the model raises."""
        replies = model.ask([Rolling(item.content["text"]) for item in items])
        return [_outcome(item, reply) for item, reply in zip(items, replies, strict=True)]

    def compute(self, metric: TaskMetric, outcomes: Sequence[Outcome]) -> float:
        """Σ over documents before the division, so that long ones count more."""
        unit = {"word_perplexity": "n_words", "token_perplexity": "n_tokens"}.get(metric.name, "n_bytes")
        total = math.fsum(outcome.values[unit] for outcome in outcomes)
        nats = -math.fsum(outcome.values["log_prob"] for outcome in outcomes) / total
        if metric.name == "bits_per_byte":
            return nats / math.log(2)
        return math.exp(nats) if nats < 700 else math.inf


def _outcome(item: Item, reply: Scored) -> Outcome:
    text: str = item.content["text"]
    facts: dict[str, Any] = {"prompt_sha256": sha256_hex(text.encode(errors="surrogatepass"))}
    if reply.problem:
        return Outcome(item.id, item.group, problem=reply.problem, **facts)
    values = {
        "log_prob": reply.log_prob,
        "n_words": float(len(re.split(r"\s+", text))),
        "n_bytes": float(len(text.encode())),
        "n_tokens": float(reply.n_tokens),
    }
    # the texts stay out of the result; that there are some says that the document counts
    return Outcome(item.id, item.group, values, texts=("", ""), **facts)
