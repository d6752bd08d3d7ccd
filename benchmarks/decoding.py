"""Texts after prompts as an evaluation asks for them, against one call of transformers' ``generate``.

    python benchmarks/decoding.py --model /models/smollm2-135m-instruct

Both get the same prompts, parts of this repository's pages, and end a reply at the same strings, so they give the same
tokens. A batch of ``generate`` goes on until its last row ends, and copies keys and values for each token.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from agent.train.local.answers import pad_left
from agent.train.local.generation import decoding
from agent.train.local.generation.stops import Stops

PAGES = Path(__file__).parents[1] / "docs"
STOP = ("\n\n",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder with a model and its tokenizer")
    parser.add_argument("--rows", type=int, default=16, help="prompts (default 16)")
    parser.add_argument("--new-tokens", type=int, default=256, help="most tokens of a reply (default 256)")
    parser.add_argument("--prompt-tokens", type=int, nargs="+", default=[100, 1000], metavar="N")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model: Any = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    end = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)
    print("prompt tokens  generate  in parts    ratio   same tokens")
    for n in given.prompt_tokens:
        prompts = texts(tokenizer, given.rows, n)
        ask = lambda prompts=prompts: replies(model, tokenizer, prompts, end, given.new_tokens)  # noqa: E731
        plain_s, plain = timed(lambda ask=ask: in_one_call(ask))
        parts_s, parts = timed(ask)
        same = sum(a == b for a, b in zip(plain, parts, strict=True))
        print(f"{n:13,}  {plain_s:6.1f} s  {parts_s:6.1f} s  {plain_s / parts_s:5.2f} ×   {same} of {len(plain)}")


def texts(tokenizer: Any, n_rows: int, n_tokens: int) -> list[list[int]]:
    """Parts of pages, a little shorter from row to row."""
    tokens = tokenizer("\n".join(path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))))["input_ids"]
    return [tokens[row * n_tokens : (row + 1) * n_tokens - row] for row in range(n_rows)]


def replies(model: Any, tokenizer: Any, prompts: Sequence[list[int]], end: int, n_new: int) -> list[list[int]]:
    """The tokens of each reply up to its end."""
    inputs = pad_left(prompts, end)
    stops = Stops(tokenizer, STOP, inputs["input_ids"].shape[1], [n_new] * len(prompts))
    with torch.inference_mode():
        rows = decoding.decode(model, inputs, stops, None, {end})
    cut = [list(row[:after]) for row, after in zip(rows, stops.stopped_after, strict=True)]
    return [row[: row.index(end)] if end in row else row for row in cut]


def in_one_call(ask: Callable[[], list[list[int]]]) -> list[list[int]]:
    """The same by one call of ``generate``, with the library's own cache and attention."""
    with (
        patch.object(decoding, "roomy_cache", lambda _: None),
        patch.object(decoding, "shared_heads", lambda _: nullcontext()),
    ):
        return ask()


def timed(run: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    began = time.perf_counter()
    found = run()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
