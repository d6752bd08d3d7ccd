"""The likelihood of the last tokens of rows, in batches of one length."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agent.train.base.device import autocast
from agent.train.base.model import Base
from agent.train.local.raw_tokens import ScoredTokens

_MAX_LOGITS = 1 << 28
"""Most logits of one batch: 1 GiB in float32. A single row may have more."""
_KEEPS_SOME = "logits_to_keep"
"""The argument of a model's ``forward`` by which it computes the last logits alone."""


@dataclass(frozen=True)
class TargetScore:
    """Σ log p of the targets in nats, and whether each is the likeliest token at its place."""

    log_prob: float = 0.0
    is_greedy: bool = False


def score_targets(
    model: Any,
    base: Base,
    rows: Sequence[ScoredTokens],
    *,
    micro_batch: int,
    report: Callable[[int], None],
) -> list[TargetScore]:
    """Score the targets of each row, in the order of the rows; rows with a problem get nothing.

    Rows that read the same tokens go through the model once: the options of a question often differ in their last
    token alone. Logits are as the model computes them; softmax is in float32, sums are in float64.

    Args:
        model: the model to call: the language model itself, or a PEFT model that wraps it.
        base: the base model in it.
        rows: the rows.
        micro_batch: rows that go through the model at once, at most.
        report: called with the number of rows done.
    """
    model.eval()
    scores = [TargetScore()] * len(rows)
    together: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        if not row.problem:
            together.setdefault(row.read, []).append(i)
    done = len(rows) - sum(map(len, together.values()))
    n_logits = base.language_model.config.get_text_config().vocab_size
    may_keep = _KEEPS_SOME in inspect.signature(base.language_model.forward).parameters
    # the longest first, so that lack of memory shows at once, and a batch needs little padding
    inputs = sorted(together, key=lambda read: (-len(read), read))
    needed = {read: max(len(rows[i].targets) for i in together[read]) for read in inputs}
    with torch.inference_mode(), autocast(base.device, base.autocast_dtype):
        for batch in _batches(inputs, needed, micro_batch, n_logits):
            n_kept = _n_kept(batch, needed)
            keeping = {_KEEPS_SOME: n_kept} if may_keep else {}
            input_ids = _pad_right(batch).to(base.device)  # (batch, longest)
            logits = model(input_ids=input_ids, use_cache=False, **keeping).logits[:, -n_kept:]
            for read, of_row in zip(batch, logits, strict=True):
                end = n_kept - len(batch[0]) + len(read)  # without the padding
                log_p = of_row[end - needed[read] : end].float().log_softmax(-1)  # (needed, vocabulary)
                for i in together[read]:
                    scores[i] = _score(log_p, rows[i].targets)
                done += len(together[read])
            report(done)
    return scores


def _score(log_p: Tensor, targets: Sequence[int]) -> TargetScore:
    """log_p: of the last places, (places, vocabulary)."""
    log_p = log_p[-len(targets) :]
    tokens = torch.tensor(targets, device=log_p.device)
    chosen = log_p.gather(1, tokens[:, None])[:, 0]
    return TargetScore(float(chosen.double().sum()), bool((log_p.argmax(-1) == tokens).all()))


def _batches(
    inputs: Sequence[tuple[int, ...]], needed: dict[tuple[int, ...], int], micro_batch: int, n_logits: int
) -> Iterator[list[tuple[int, ...]]]:
    """Split inputs, the longest first, into batches whose logits fit."""
    batch: list[tuple[int, ...]] = []
    for read in inputs:
        larger = [*batch, read]
        if batch and (len(larger) > micro_batch or len(larger) * _n_kept(larger, needed) * n_logits > _MAX_LOGITS):
            yield batch
            larger = [read]
        batch = larger
    if batch:
        yield batch


def _n_kept(batch: Sequence[tuple[int, ...]], needed: dict[tuple[int, ...], int]) -> int:
    """How many places from the end, padding included, hold all that is scored of a batch."""
    return max(len(batch[0]) - len(read) + needed[read] for read in batch)


def _pad_right(batch: Sequence[tuple[int, ...]]) -> Tensor:
    """Pad on the right, where a causal model's earlier places do not see it: (batch, longest) int64."""
    padded = torch.zeros((len(batch), len(batch[0])), dtype=torch.long)
    for row, read in zip(padded, batch, strict=True):
        row[: len(read)] = torch.tensor(read)
    return padded
