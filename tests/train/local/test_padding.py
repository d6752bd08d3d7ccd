"""Models whose rows see their padding are found, and their rows decoded alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BartConfig, RecurrentGemmaConfig, RwkvConfig

from agent.train.local.generation.padding import sees_padding
from tests.train.local.small_models import FAMILIES, SHARED, VOCABULARY, made

pytestmark = pytest.mark.train

PROMPT = [5, 9, 2, 30, 7, 7, 12, 3, 4, 6]
SEEING: dict[str, Callable[[], Any]] = {
    "recurrent": lambda: RwkvConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, context_length=64),
    "recurrent and attention": lambda: RecurrentGemmaConfig(
        **SHARED | {"num_hidden_layers": 3}, lru_width=32, attention_window_size=16
    ),
    "positions of the padding": lambda: BartConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=48,
    ),
}
PRECISIONS = [None, torch.bfloat16]


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("family", list(SEEING))
def test_padding_that_is_seen_is_found(family: str, dtype: torch.dtype | None) -> None:
    assert sees_padding(made(SEEING[family]()).to(dtype or torch.float32), PROMPT, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:1], [0, 0]])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_padding_that_is_not_seen_is_no_reason_to_go_slowly(
    family: str, prompt: list[int], dtype: torch.dtype | None
) -> None:
    assert not sees_padding(made(FAMILIES[family]()).to(dtype or torch.float32), prompt, dtype)
