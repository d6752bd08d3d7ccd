"""How many prompts are asked at once."""

from types import SimpleNamespace

import pytest
import torch

from agent.train.local.generation.cache_room import bytes_a_token, n_together, rows_at_once


@pytest.mark.parametrize(
    ("micro_batch", "n_tokens", "bytes_each", "expected"),
    [
        (32, 2048, 46_080, 22),  # 135M parameters
        (32, 512, 46_080, 32),
        (32, 2048, 524_288, 8),  # 7B, each head with keys of its own
        (32, 100_000, 524_288, 8),  # never fewer than a quarter
        (16, 2048, 46_080, 11),  # memory ran out before
        (8, 512, 46_080, 8),
        (1, 512, 46_080, 1),
        (32, 512, None, 8),
        (32, 0, 46_080, 32),
    ],
)
def test_short_rows_go_together_as_far_as_the_cache_has_room(
    micro_batch: int, n_tokens: int, bytes_each: int | None, expected: int
) -> None:
    assert rows_at_once(micro_batch, n_tokens, bytes_each) == expected


def test_rows_of_one_length_together_take_the_longest_prompt_and_the_longest_reply() -> None:
    assert n_together([(1000, 1048)] * 32, 32, 46_080) == 22
    assert n_together([(2000, 48)] * 10 + [(48, 2000)] * 22, 32, 46_080) == 11, "such a batch may have 4,000 tokens"
    assert n_together([(2000, 48)] * 10 + [(48, 2000)] * 22, 1, 46_080) == 1
    assert n_together([(10, 10)] * 5, 32, 46_080) == 5
    assert n_together([(90_000, 10)], 32, 524_288) == 1


@pytest.mark.parametrize("bytes_each", [None, 46_080, 524_288])
@pytest.mark.parametrize("n_tokens", [20, 700, 2048, 9000])
@pytest.mark.parametrize("n_asked", [5, 16, 32])
def test_after_half_of_a_batch_was_too_much_it_is_never_tried_again(
    n_asked: int, n_tokens: int, bytes_each: int | None
) -> None:
    micro_batch, tried = 32, [n_asked + 1]
    while True:
        rows = min(n_asked, rows_at_once(micro_batch, n_tokens, bytes_each))
        assert rows < tried[-1] or rows == 1
        tried.append(rows)
        if micro_batch == 1:
            break
        micro_batch = min(micro_batch, n_asked) // 2
    assert tried[-1] == 1


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
