"""How many prompts are asked at once."""

from types import SimpleNamespace

import pytest
import torch

from agent.train.local.generation.cache_room import bytes_a_token, rows_at_once


@pytest.mark.parametrize(
    ("micro_batch", "n_tokens", "bytes_each", "expected"),
    [
        (8, 2048, 46_080, 22),  # 135M parameters
        (8, 512, 46_080, 64),
        (8, 2048, 524_288, 8),  # 7B, each head with keys of its own
        (8, 100_000, 524_288, 8),  # never fewer than asked for
        (1, 512, 46_080, 8),  # memory ran out before
        (8, 512, None, 8),
        (8, 0, 46_080, 64),
    ],
)
def test_short_rows_go_together_as_far_as_the_cache_has_room(
    micro_batch: int, n_tokens: int, bytes_each: int | None, expected: int
) -> None:
    assert rows_at_once(micro_batch, n_tokens, bytes_each) == expected


def test_the_cache_is_that_of_the_model() -> None:
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, MambaConfig

    config = LlamaConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3, vocab_size=9
    )
    config.intermediate_size = 16
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    cache = DynamicCache(config=config)
    model(torch.zeros(1, 5, dtype=torch.long), past_key_values=cache)
    held = sum(part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
    assert bytes_a_token(model) == held // 5
    without = SimpleNamespace(config=MambaConfig(), dtype=torch.float32)
    assert bytes_a_token(without) is None
