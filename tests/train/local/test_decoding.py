"""Decoding in parts gives what one call of the library gives, in families of models with caches of several kinds."""

from collections.abc import Callable
from typing import Any

import pytest
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

from agent.orders.on_base.generate import RawPrompt
from agent.train.local.answers import pad_left
from agent.train.local.generation import decoding, roomy_cache
from agent.train.local.generation.sampling import Sampler
from agent.train.local.generation.stops import Stops

pytestmark = pytest.mark.train

VOCABULARY, PAD, END = 40, 0, 1
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(vocab_size=VOCABULARY, **SIZES),
    "shared heads": lambda: Qwen3Config(vocab_size=VOCABULARY, num_key_value_heads=2, **SIZES),
    "sliding windows": lambda: MistralConfig(vocab_size=VOCABULARY, sliding_window=6, num_key_value_heads=2, **SIZES),
    "windows in turn": lambda: Gemma2Config(vocab_size=VOCABULARY, sliding_window=6, num_key_value_heads=2, **SIZES),
    "learned positions": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4),
    "no cache of keys": lambda: MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4),
}
N_NEW = 23


class Letters:
    """A tokenizer of one letter a token."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(letter) - ord("A") for letter in text]

    def decode(self, tokens: Any, **_: Any) -> str:
        return "".join(chr(ord("A") + int(token)) for token in tokens)


def made(family: str) -> Any:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
    with torch.no_grad():  # far from uniform, so that ties do not decide
        for weight in model.parameters():
            weight.mul_(4)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=END, pad_token_id=PAD)
    return model


def prompts(n: int = 9) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(2, VOCABULARY, (2 + row % 5,), generator=generator).tolist() for row in range(n)]


def decoded(model: Any, stop: tuple[str, ...], *, samples: bool) -> list[list[int]]:
    """The tokens of each row up to its end or stop."""
    inputs = pad_left(prompts(), PAD)
    stops = Stops(Letters(), stop, inputs["input_ids"].shape[1], len(prompts()))
    drawn = [RawPrompt(text=str(row), seed=1) for row in range(len(prompts()))]
    sampler = Sampler(drawn, 0.7, None, None) if samples else None
    with torch.inference_mode():
        rows = decoding.decode(model, inputs, stops, sampler, {END}, N_NEW)
    cut = [list(row[:after]) for row, after in zip(rows, stops.stopped_after, strict=True)]
    return [row[: row.index(END)] if END in row else row for row in cut]


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_parts_give_what_one_call_gives(family: str, samples: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(family)
    monkeypatch.setattr(decoding, "roomy_cache", lambda _: None)
    free = decoded(model, (), samples=samples)
    stop = (Letters().decode(free[0][4:6]), Letters().decode(free[3][9:10]))  # rows end at different times
    expected = decoded(model, stop, samples=samples)
    assert len({len(row) for row in expected}) > 2
    monkeypatch.undo()
    for part, room in ((1, 1), (4, 0), (N_NEW, 5), (100, 100)):
        monkeypatch.setattr(decoding, "PART", part)
        monkeypatch.setattr(roomy_cache, "ROOM", room)
        assert decoded(model, stop, samples=samples) == expected
        assert decoded(model, (), samples=samples) == free


def test_rows_that_have_ended_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("llama")
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: sizes.append(len(given["input_ids"])), with_kwargs=True)
    monkeypatch.setattr(decoding, "PART", 1)
    inputs = pad_left(prompts(), PAD)
    stops = Stops(Letters(), ("C", "D", "E", "F", "G", "H"), inputs["input_ids"].shape[1], len(prompts()))
    with torch.inference_mode():
        rows = decoding.decode(model, inputs, stops, None, {END}, N_NEW)
    lengths = [row.index(END) + 1 if END in row else len(row) for row in rows]
    assert min(lengths) < N_NEW
    assert sum(sizes) == sum(lengths)
