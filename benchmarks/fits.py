"""Estimates which micro-batch a card can train with: models of known shapes, by precision and by length of rows.

    python benchmarks/fits.py

What a backward pass keeps of a token is counted as an agent counts it (``agent.train.trainer.need``): on models of one
and of two layers with random weights, on a CPU, in bfloat16. Their difference is a layer. Weights, adapter, gradients
and optimizer are computed from the shapes. Nothing here ran on a card. Prints a Markdown table.
"""

import gc
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from agent.train.base.fused_lora import fuse
from agent.train.trainer.need import Need, choose, saved_bytes

RANK, TOKENS, GB = 16, 64, 1e9
CARDS, LENGTHS = (8, 16, 24, 80), (512, 2048)
BATCH = 16
"""Rows of a step: more do not go together."""
RESERVED_GB = 1.0
"""Of a card, for CUDA itself and temporary tensors."""
BYTES = {"bfloat16": 2.0, "int8": 1.0, "nf4": 0.53}
"""Of a weight of a linear layer."""


@dataclass(frozen=True)
class Shape:
    """A model: layers, and the fields of a Llama configuration."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool = False


SHAPES = (
    Shape("SmolLM2-135M", 30, 576, 1536, 9, 3, 49_152, tied=True),
    Shape("Llama 3.2 1B", 16, 2048, 8192, 32, 8, 128_256, tied=True),
    Shape("Llama 2 7B", 32, 4096, 11_008, 32, 32, 32_000),
    Shape("Llama 3.1 8B", 32, 4096, 14_336, 32, 8, 128_256),
)


@dataclass(frozen=True)
class Counted:
    """Of a whole model: what a token needs, weights of linear layers, other weights, parameters of the adapter."""

    need: Need
    linear: int
    others: int
    adapter: int


def made(shape: Shape, layers: int) -> Any:
    """The model with that many layers, in bfloat16, and its adapter."""
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        vocab_size=64,  # the embeddings are counted apart
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).requires_grad_(False)
    peft_model = get_peft_model(model, LoraConfig(r=RANK, target_modules="all-linear"), autocast_adapter_dtype=True)
    fuse(peft_model)
    return peft_model


def kept(shape: Shape, layers: int) -> int:
    """Bytes that a backward pass keeps of a token."""
    model = made(shape, layers)
    with torch.autocast("cpu", torch.bfloat16), saved_bytes(model) as found:
        model.base_model.model.model(input_ids=torch.zeros((1, TOKENS), dtype=torch.long), use_cache=False)
    del model
    gc.collect()
    return found[0] // TOKENS


def counted(shape: Shape) -> Counted:
    one, two = kept(shape, 1), kept(shape, 2)
    per_token = one + (shape.layers - 1) * (two - one)
    with torch.device("meta"):
        model = made(shape, 1)
    trained = {True: 0, False: 0}
    for name, each in model.named_parameters():
        if ".layers.0." in name:
            trained[each.requires_grad] += each.numel()
    inputs = shape.layers * shape.hidden * 2
    need = Need(per_token, inputs + 2 * per_token // shape.layers, per_scored=4 * 4 * min(shape.vocabulary, 32_768))
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    return Counted(need, trained[False] * shape.layers, embeddings, trained[True] * shape.layers)


def fitting(found: Counted, precision: str, card: int, length: int) -> str:
    """The most rows of this length at once, all of whose tokens are supervised; with a mark if layers compute again."""
    fixed = found.linear * BYTES[precision] + found.others * 2 + found.adapter * 4 * 4  # weights, gradient, two moments
    free = (card - RESERVED_GB) * GB - fixed
    n_tokens = np.full(BATCH, length)
    free_bytes = max(0, int(free))
    choice = choose(found.need, n_tokens, n_tokens, batch_size=BATCH, most=BATCH, free=free_bytes, on_cpu=False)
    return f"{choice.micro_batch}{' *' if choice.recomputes else ''}" if choice.fits else "–"


def main() -> None:
    print(f"| model | base | {' | '.join(f'{card} GB, {length} tokens' for length in LENGTHS for card in CARDS)} |")
    print(f"| --- | --- | {' | '.join('---:' for _ in CARDS * len(LENGTHS))} |")
    for shape in SHAPES:
        found = counted(shape)
        for precision in BYTES:
            cells = [fitting(found, precision, card, length) for length in LENGTHS for card in CARDS]
            print(f"| {shape.name} | {precision} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
