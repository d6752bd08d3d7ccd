"""Trains the quickstart's base model from scratch: a tokenizer and a Llama of a million parameters.

Its training data is an encyclopedia of things whose names never occur in the owners' records, in the phrasings of the
TRAIN split, with and without notes that contain the answer. So the model understands the questions but knows none of
the owners' answers.

    python examples/quickstart/make_model.py FOLDER

It takes about 8 minutes on one core. It wrote the folder `model/` beside this file.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world import KINDS, Split, Thing, draw, questions, statement

SEED = 2026
THINGS_A_KIND = 96
STEPS = 1500
BATCH = 64
LEARNING_RATE = 3e-3
READING = 0.35
"""Share of rows with notes about a thing that is drawn for this row only."""

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(corpus: list[str]) -> Any:
    """Make a byte-level BPE tokenizer, trained on the corpus, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def notes(thing: Thing, random: np.random.Generator) -> str:
    """All facts of a thing, in random order."""
    attributes = list(thing.facts)
    random.shuffle(attributes)
    return " ".join(statement(thing, attribute) for attribute in attributes)


def batch(things: list[Thing], tokenizer: Any, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and labels, (BATCH, T) each. The loss covers the answers only."""
    rows: list[tuple[str, str]] = []
    for _ in range(BATCH):
        reads = random.random() < READING
        if reads:
            kind = KINDS[random.integers(len(KINDS))]
            (thing,) = draw(kind, 1, random, of_owners=False)
        else:
            thing = things[random.integers(len(things))]
        row = list(questions(thing, Split.TRAIN))
        example = row[random.integers(len(row))]
        prompt = f"{notes(thing, random)}\n{example['prompt']}" if reads else example["prompt"]
        rows.append((f"<|user|>{prompt}<|assistant|>", f"{example['completion']}<|end|>"))
    encoded = [(tokenizer(p)["input_ids"], tokenizer(c)["input_ids"]) for p, c in rows]
    width = max(len(p) + len(c) for p, c in encoded)
    ids = torch.full((BATCH, width), tokenizer.pad_token_id)
    labels = torch.full((BATCH, width), -100)
    for index, (p, c) in enumerate(encoded):
        ids[index, : len(p) + len(c)] = torch.tensor(p + c)
        labels[index, len(p) : len(p) + len(c)] = torch.tensor(c)
    return ids, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    things = [thing for kind in KINDS for thing in draw(kind, THINGS_A_KIND, random, of_owners=False)]
    words = [draw(kind, 150, random, of_owners=False) for kind in KINDS]
    tokenizer = make_tokenizer(
        [text for drawn in words for thing in drawn for row in questions(thing, Split.TRAIN) for text in row.values()]
    )
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens, {len(things)} things")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    started = time.perf_counter()
    for step in range(1, STEPS + 1):
        warm, fall = min(1.0, step / 100), 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warm * (0.02 + 0.98 * fall)
        ids, labels = batch(things, tokenizer, random)
        loss = model(input_ids=ids, attention_mask=ids != tokenizer.pad_token_id, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(
                f"step {step:5} of {STEPS}, loss {loss.item():.3f}, {time.perf_counter() - started:.0f} s", flush=True
            )
    model.to(torch.bfloat16).save_pretrained(folder)  # half the size, and exact again in float32
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
