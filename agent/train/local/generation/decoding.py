"""Decoding in parts. Between two of them the rows that have ended leave the batch.

They would cost as much as the others until the last one ends.
"""

import sys
from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor

from agent.train.base.limits import limits_of
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
) -> list[Sequence[int]]:
    """The new tokens of each row, within its limit. What follows a stop or an end is of no meaning.

    Args:
        model: whose generation configuration says how the next token is chosen.
        inputs: ``input_ids`` and ``attention_mask``, each (rows, longest prompt), padded on the left.
        stops: of these rows, with their limits.
        sampler: of these rows; None for greedy decoding.
        ends: tokens that end a row.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    n_before, rows = ids.shape[1], list(range(len(ids)))
    found: list[Sequence[int]] = [()] * len(rows)
    cache = roomy_cache(model)
    n_positions = limits_of(model.config).n_positions or sys.maxsize
    while rows:
        n_left = [stops.limits[row] - (ids.shape[1] - n_before) for row in rows]
        n_free = n_positions - int(mask.sum(1).max())
        with shared_heads(ids.device):
            ids = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=_part(n_left, n_free, is_whole=cache is None),
                stopping_criteria=[stops],
                logits_processor=[sampler] if sampler is not None else [],
                **({"past_key_values": cache} if cache is not None else {}),
            )
        new = ids[:, n_before:].tolist()
        going = []
        for place, (row, tokens) in enumerate(zip(rows, new, strict=True)):
            limit = stops.limits[row]
            if len(tokens) >= limit or stops.stopped_after[row] is not None or not ends.isdisjoint(tokens):
                found[row] = tokens[:limit]
            else:
                going.append(place)
        if going:
            kept = torch.tensor(going, device=ids.device)
            if cache is not None and len(going) < len(rows):
                cache.batch_select_indices(kept)
            ids = ids[kept]
            mask = torch.cat([mask[kept], mask.new_ones(len(going), ids.shape[1] - mask.shape[1])], dim=1)
            stops.keep(going)
            if sampler is not None:
                sampler.keep(going)
        rows = [rows[place] for place in going]
    return found


def _part(n_left: Sequence[int], n_free: int, *, is_whole: bool) -> int:
    """The new tokens of the next part.

    A row with all of its tokens stays to the end of the part, unless it would come to a position that does not exist.

    Args:
        n_left: tokens that each row may still get.
        n_free: positions after the longest row.
        is_whole: whether what a model keeps of a part is lost after it, so that there should be one alone.
    """
    longest = max(n_left) if is_whole else min(PART, max(n_left))
    return min(longest, max(n_free, min(n_left)))
