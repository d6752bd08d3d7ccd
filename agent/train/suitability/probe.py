"""Short rows for measurements, and the measurements: losses by two paths, and a look into the future."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agent.train.data.tokens import TokenRow, TokenRows

_N_ROWS, _MAX_TOKENS, _SHORTER_BY = 3, 64, 5


def probe_rows(rows: TokenRows) -> TokenRows:
    """Return a few short rows made of the first of *rows*, of different lengths; their second halves are supervised.

    The lengths differ so that a batch has padding. A single row is taken several times.
    """
    probes: list[TokenRow] = []
    for number in range(_N_ROWS):
        tokens = rows.example(number % len(rows))["input_ids"][: _MAX_TOKENS - number * _SHORTER_BY]
        tokens = tokens if number == 0 or len(tokens) <= _SHORTER_BY else tokens[: len(tokens) - number]
        half = max(1, len(tokens) // 2)
        probes.append((tokens, [place >= half for place in range(len(tokens))]))
    return TokenRows.of([probe for probe in probes if any(probe[1])])


def plain_log_probabilities(model: Any, rows: TokenRows, device: torch.device) -> NDArray[np.float64]:
    """Return Σ log p over the supervised tokens of each of n *rows*, in nats, (n,), as plain transformers has it.

    Each row goes through the model alone and without padding, and the model computes all logits itself.
    """
    sums = np.empty(len(rows))
    for number in range(len(rows)):
        example = rows.example(number)
        ids = torch.tensor([example["input_ids"]], device=device)  # (1, T)
        labels = torch.tensor(example["labels"], device=device)[1:]  # (T − 1,)
        log_p = _logits(model, ids)[0, :-1].log_softmax(dim=-1)  # (T − 1, vocabulary)
        supervised = labels >= 0
        sums[number] = log_p[supervised].gather(1, labels[supervised].unsqueeze(1)).double().sum().item()
    return sums


def movement_of_the_past(model: Any, rows: TokenRows, device: torch.device) -> float:
    """Return how much earlier logits move when later tokens change, relative to the largest logit; 0 if causal."""
    longest = int(np.argmax(rows.lengths))
    ids = torch.tensor([rows.example(longest)["input_ids"]], device=device)  # (1, T)
    half = ids.shape[1] // 2
    one, other = (*np.unique(rows.ids)[:2].tolist(), 0, 1)[:2]
    changed = ids.clone()
    changed[0, half:] = torch.where(ids[0, half:] == one, other, one)  # each is another token than before
    before, after = (_logits(model, each)[0, :half] for each in (ids, changed))  # (T // 2, vocabulary) each
    return float((before - after).abs().max() / before.abs().max().clamp(min=1.0))


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Float32 logits, (batch, tokens, vocabulary)."""
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
    return logits
