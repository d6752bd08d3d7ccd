"""A cache of keys and values whose rows can be dropped, and that is not copied for each new token."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 64
"""Tokens that a layer has room for beyond those that it holds, when it is copied."""


class RoomyLayer(DynamicLayer):
    """Keys and values in tensors with room for more, each (rows, heads, tokens, head size).

    The library's own layer copies all of them for each token, which takes longer than the attention to them.
    """

    keys: Tensor
    values: Tensor
    _room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add new keys and values. Returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n_held = self.get_seq_length()
        n = n_held + key_states.shape[-2]
        if self._room is None or self.keys.data_ptr() != self._room[0].data_ptr() or n > self._room[0].shape[-2]:
            self._room = _with_room(self.keys, key_states, n_held), _with_room(self.values, value_states, n_held)
        keys, values = self._room
        keys[..., n_held:n, :] = key_states
        values[..., n_held:n, :] = value_states
        self.keys, self.values = keys[..., :n, :], values[..., :n, :]
        return self.keys, self.values


def _with_room(held: Tensor, new: Tensor, n_held: int) -> Tensor:
    rows, heads, n_new, size = new.shape
    room = new.new_empty((rows, heads, n_held + n_new + ROOM, size))
    if n_held:
        room[..., :n_held, :] = held
    return room


def roomy_cache(model: Any) -> DynamicCache | None:
    """An empty cache for a model; None for those that keep another state than keys and values, or may do so."""
    takes_one = getattr(model, "_supports_default_dynamic_cache", None)  # the library's own, which may change
    if takes_one is None or not takes_one():
        return None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    kinds = {type(layer) for layer in cache.layers}
    if not kinds or not kinds <= {DynamicLayer, DynamicSlidingWindowLayer}:
        return None
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@contextmanager
def shared_heads(device: torch.device) -> Iterator[None]:
    """In the block, heads that share keys and values read the same ones, where the library would copy them for each.

    It does so by its own switch, on the CPU alone: with CUDA a mask then means a slower kernel.
    """
    forced = {"TRANSFORMERS_SDPA_FORCE_GQA": "1"} if device.type == "cpu" else {}
    with patch.dict(os.environ, forced):
        yield
