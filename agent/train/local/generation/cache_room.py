"""How many prompts go through a model at once: as many as its cache of keys and values has room for."""

from collections.abc import Sequence
from typing import Any

_BYTES_A_ROW = 1 << 26
"""Bytes of the cache that each prompt of a micro batch stands for."""
_SHARE = 4
"""A quarter of a micro batch goes through the model at once however long its prompts are."""


def n_together(rows: Sequence[tuple[int, int]], micro_batch: int, bytes_a_token: int | None) -> int:
    """How many of the first rows are generated at once.

    Args:
        rows: tokens of each prompt, and most tokens of its reply. Prompts are padded to the longest one of their batch,
            and may go on while any of them does.
        micro_batch, bytes_a_token: as in ``rows_at_once``.
    """
    n_read = n_new = 0
    for n, (of_prompt, of_reply) in enumerate(rows):
        n_read, n_new = max(n_read, of_prompt), max(n_new, of_reply)
        if n and n >= rows_at_once(micro_batch, n_read + n_new, bytes_a_token):
            return n
    return len(rows)


def rows_at_once(micro_batch: int, n_tokens: int, bytes_a_token: int | None) -> int:
    """How many rows of *n_tokens* tokens are generated at once: *micro_batch*, or fewer where the cache has no room.

    A step of decoding reads all weights, so that more rows cost little more time.

    Args:
        micro_batch: rows at once if they are short. Half as many may fill half as much of the cache.
        n_tokens: of the longest row, with its reply.
        bytes_a_token: of the cache; None if it is not known.
    """
    fewest = -(-micro_batch // _SHARE)
    if bytes_a_token is None:
        return fewest
    room = micro_batch * _BYTES_A_ROW // (bytes_a_token * max(1, n_tokens))
    return max(fewest, min(room, micro_batch))


def bytes_a_token(model: Any) -> int | None:
    """Bytes that the keys and values of one token take in all layers; None if the configuration does not tell."""
    config = model.config.get_text_config()
    layers, heads = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
    if not layers or not heads:
        return None
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * layers * shared * size * model.dtype.itemsize)
