"""How many prompts go through a model at once: as many as its cache of keys and values has room for."""

from typing import Any

_BYTES_A_ROW = 1 << 28
"""Bytes of the cache that each prompt of a micro batch stands for; one of a model with 7B parameters has less."""
_MOST = 64


def rows_at_once(micro_batch: int, n_tokens: int, bytes_a_token: int | None) -> int:
    """How many rows of *n_tokens* tokens are generated at once: at least *micro_batch*, and more where rows are short.

    A step of decoding reads all weights, so that more rows cost little more time.

    Args:
        micro_batch: rows at once whatever their length.
        n_tokens: of the longest row, with its reply.
        bytes_a_token: of the cache; None if it is not known.
    """
    if bytes_a_token is None:
        return micro_batch
    room = micro_batch * _BYTES_A_ROW // (bytes_a_token * max(1, n_tokens))
    return max(micro_batch, min(room, _MOST, 8 * micro_batch))


def bytes_a_token(model: Any) -> int | None:
    """Bytes that the keys and values of one token take in all layers; None if the configuration does not tell."""
    config = model.config.get_text_config()
    layers, heads = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
    if not layers or not heads:
        return None
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * layers * shared * size * model.dtype.itemsize)
