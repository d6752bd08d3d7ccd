"""Rows to measure a base model with, and what is measured on them: losses, and whether earlier logits change."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agent.train.data.tokens import TokenRow, TokenRows
from agent.train.trainer.layout import SHORTEST

_N_SHORT, _SHORT_TOKENS, _SHORTER_BY = 3, 64, 5
_LONG_TOKENS = 1024


def probe_rows(rows: TokenRows) -> TokenRows:
    """Return a few short rows, made of the first of *rows*, and the longest, all cut.

    Their second halves are supervised. The lengths differ, so that a batch has padding. The longest row shows what a
    model does only beyond some length.
    """
    probes = []
    for number in range(_N_SHORT):
        tokens = rows.example(number % len(rows))["input_ids"]
        n_tokens = min(len(tokens) - number, _SHORT_TOKENS - number * _SHORTER_BY)
        probes.append(_half_supervised(tokens[: max(2, n_tokens)]))
    if rows.lengths.max() > _SHORT_TOKENS:
        probes.append(_half_supervised(rows.example(int(np.argmax(rows.lengths)))["input_ids"][:_LONG_TOKENS]))
    return TokenRows.of(probes)


def longest_probe(rows: TokenRows) -> int:
    """The tokens of the longest of the rows that ``probe_rows`` makes of *rows*."""
    return min(int(rows.lengths.max()), _LONG_TOKENS)


def _half_supervised(tokens: list[int]) -> TokenRow:
    half = len(tokens) // 2
    return tokens, [place >= half for place in range(len(tokens))]


def with_another_longest(rows: TokenRows) -> tuple[TokenRows, NDArray[np.bool_]]:
    """Other tokens in the longest of n *rows*. Returns the rows, and which are as they were, (n,) bool."""
    longest = int(np.argmax(rows.lengths))
    part = slice(rows.offsets[longest], rows.offsets[longest + 1])
    ids = rows.ids.copy()
    ids[part] = other_tokens(rows, ids[part])
    return replace(rows, ids=ids), np.arange(len(rows)) != longest


def forked(rows: TokenRows) -> TokenRows | None:
    """Return *rows*, and twice the longest with other tokens from its middle, and from its last quarter, on.

    None if half of it is too short to be shared.
    """
    longest = int(np.argmax(rows.lengths))
    ids = rows.ids[rows.offsets[longest] : rows.offsets[longest + 1]]  # (T,)
    forks = [len(ids) // 2, len(ids) * 3 // 4]
    if forks[0] < SHORTEST:
        return None
    examples = [rows.example(number)["input_ids"] for number in range(len(rows))]
    examples += [[*ids[:fork].tolist(), *other_tokens(rows, ids[fork:]).tolist()] for fork in forks]
    return TokenRows.of([_half_supervised(each) for each in examples])


def other_tokens(rows: TokenRows, ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each of some tokens another one, of those that *rows* have."""
    one, other = (*np.unique(rows.ids)[:2].tolist(), 0, 1)[:2]
    return np.where(ids == one, other, one).astype(ids.dtype)


def plain_log_probabilities(model: Any, rows: TokenRows, device: torch.device) -> NDArray[np.float64]:
    """Return Σ log p over the supervised tokens of each of n *rows*, in nats, (n,), as plain transformers has it.

    Each row goes through the model alone and without padding, and the model computes all logits itself.
    """
    sums = np.empty(len(rows))
    for number in range(len(rows)):
        example = rows.example(number)
        ids = torch.tensor([example["input_ids"]], device=device)  # (1, T)
        labels = torch.tensor(example["labels"], device=device)[1:]  # (T − 1,)
        supervised = labels >= 0
        log_p = _logits(model, ids)[0, :-1][supervised].float().log_softmax(dim=-1)  # (supervised, vocabulary)
        sums[number] = log_p.gather(1, labels[supervised].unsqueeze(1)).double().sum().item()
    return sums


def change_of_earlier_logits(model: Any, rows: TokenRows, device: torch.device) -> float:
    """Return how much earlier logits change with later tokens, relative to the largest logit; 0 if the model is causal.

    The longest row is measured.
    """
    longest = int(np.argmax(rows.lengths))
    ids = rows.ids[rows.offsets[longest] : rows.offsets[longest + 1]]  # (T,)
    half = len(ids) // 2
    changed = np.concatenate([ids[:half], other_tokens(rows, ids[half:])])
    before, after = (
        _logits(model, torch.tensor(each[np.newaxis], dtype=torch.long, device=device))[0, :half].float()
        for each in (ids, changed)
    )  # (T // 2, vocabulary) each
    return float((before - after).abs().max() / before.abs().max().clamp(min=1.0))


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The logits, (batch, tokens, vocabulary)."""
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits
