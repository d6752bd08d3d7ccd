"""Decoding in parts. Between two of them the rows that have ended leave the batch.

They would cost as much as the others until the last one ends.
"""

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor

from agent.train.local.generation.roomy_cache import roomy_cache, shared_heads
from agent.train.local.generation.sampling import Sampler
from agent.train.local.generation.stops import Stops

PART = 32
"""New tokens of a part."""


def decode(
    model: Any,
    inputs: dict[str, Tensor],
    stops: Stops,
    sampler: Sampler | None,
    ends: Set[int],
    max_new_tokens: int,
) -> list[Sequence[int]]:
    """The new tokens of each row. What follows a stop or an end is of no meaning.

    Args:
        model: whose generation configuration says how the next token is chosen.
        inputs: ``input_ids`` and ``attention_mask``, each (rows, longest prompt), padded on the left.
        stops: of these rows.
        sampler: of these rows; None for greedy decoding.
        ends: tokens that end a row.
        max_new_tokens: most tokens of a row.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    n_before, rows = ids.shape[1], list(range(len(ids)))
    found: list[Sequence[int]] = [()] * len(rows)
    cache = roomy_cache(model)
    while rows:
        n_new = ids.shape[1] - n_before
        with shared_heads(ids.device):
            ids = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=min(PART, max_new_tokens - n_new) if cache is not None else max_new_tokens,
                stopping_criteria=[stops],
                logits_processor=[sampler] if sampler is not None else [],
                **({"past_key_values": cache} if cache is not None else {}),
            )
        new = ids[:, n_before:].tolist()
        is_last = cache is None or len(new[0]) >= max_new_tokens
        going = []
        for place, (row, tokens) in enumerate(zip(rows, new, strict=True)):
            if is_last or stops.stopped_after[row] is not None or not ends.isdisjoint(tokens):
                found[row] = tokens
            else:
                going.append(place)
        if going and cache is not None:
            kept = torch.tensor(going, device=ids.device)
            if len(going) < len(rows):
                cache.batch_select_indices(kept)
            ids = ids[kept]
            mask = torch.cat([mask[kept], mask.new_ones(len(going), ids.shape[1] - mask.shape[1])], dim=1)
            stops.keep(going)
            if sampler is not None:
                sampler.keep(going)
        rows = [rows[place] for place in going]
    return found
