"""Families of models with caches of several kinds, with random weights and a few tokens."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)

VOCABULARY, PAD, END = 40, 0, 1
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
SHARED: dict[str, Any] = {"vocab_size": VOCABULARY, "num_key_value_heads": 2, **SIZES}
EAGER = {"attn_implementation": "eager"}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(vocab_size=VOCABULARY, **SIZES),
    "shared heads": lambda: Qwen3Config(**SHARED),
    "sliding windows": lambda: MistralConfig(sliding_window=6, **SHARED),
    "windows in turn": lambda: Gemma2Config(sliding_window=6, **SHARED),
    "learned positions": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4),
    "no cache of keys": lambda: MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4),
    "no cache by its configuration": lambda: LlamaConfig(use_cache=False, **SHARED),
    "eager attention": lambda: Qwen3Config(**SHARED, **EAGER),
    "eager attention in windows": lambda: MistralConfig(sliding_window=6, **SHARED, **EAGER),
}


def made(config: Any) -> Any:
    """A model of a configuration, that decodes greedily."""
    torch.manual_seed(3)
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # far from uniform, so that ties do not decide
        for weight in model.parameters():
            weight.mul_(4)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=END, pad_token_id=PAD)
    return model
