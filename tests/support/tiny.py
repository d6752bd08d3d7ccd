"""A tiny Llama with its own tokenizer, and rows and preference pairs for it."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_NOUNS = ["water", "fever", "market", "river", "heart", "bread", "winter", "number", "school", "engine"]
_VERBS = ["rises", "falls", "turns", "stays", "breaks", "grows", "melts", "waits"]
ROWS = [
    {
        "instruction": f"What does the {noun} do {'now' if i % 2 else 'at night'}?",
        "input": f"Think of the {verb[:-1]} number {i}." if i % 3 == 0 else "",
        "output": f"the {noun} {verb} and the {_NOUNS[(i * 7) % 10]} {_VERBS[(i * 3) % 8]} {'again ' * (i % 5)}slowly",
    }
    for i, (noun, verb) in enumerate((n, v) for n in _NOUNS for v in _VERBS)
]
PAIRS = [
    {
        "instruction": row["instruction"],
        "input": row["input"],
        "chosen": row["output"],
        "rejected": " ".join(reversed(row["output"].split()[i % 3 :])),
    }
    for i, row in enumerate(ROWS)
]
CORPUS = [" ".join(row.values()) for row in ROWS]


def byte_level_bpe() -> Any:
    """A tokenizer like those of GPT-2, SmolLM and Qwen: byte-level, no BOS token, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_model(folder: Path, seed: int = 0) -> Path:
    """Write a two-layer Llama with random weights, as safetensors, and its tokenizer. Returns *folder*."""
    tokenizer = byte_level_bpe()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
