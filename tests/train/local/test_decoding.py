"""Decoding in parts gives what one call of the library gives, in families of models with caches of several kinds."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import GenerationMixin, GPT2Config

from agent.orders.on_base.generate import RawPrompt
from agent.train.local.answers import pad_left
from agent.train.local.generation import decoding, roomy_cache
from agent.train.local.generation.sampling import Sampler
from agent.train.local.generation.stops import Stops
from tests.train.local.small_models import END, FAMILIES, PAD, VOCABULARY, made

pytestmark = pytest.mark.train

N_ROWS, N_NEW = 9, 23
LIMITS = [N_NEW, 1, 4, 9, N_NEW, 5, 22, 1, 40]
Decode = Callable[..., list[list[int]]]
PARTS = ((1, 1), (4, 0), (N_NEW, 5), (100, 100))
"""Tokens of a part, and of the room that a cache has beyond what it holds."""


class Letters:
    """A tokenizer of one letter a token."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(letter) - ord("A") for letter in text]

    def decode(self, tokens: Any, **_: Any) -> str:
        return "".join(chr(ord("A") + int(token)) for token in tokens)


def prompts(rows: Sequence[int] = range(N_ROWS)) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randint(2, VOCABULARY, (2 + row % 5,), generator=generator).tolist() for row in range(N_ROWS)]
    return [drawn[row] for row in rows]


def decoded(
    model: Any,
    stop: tuple[str, ...] = (),
    *,
    samples: bool = False,
    limits: Sequence[int] = (N_NEW,) * N_ROWS,
    rows: Sequence[int] = range(N_ROWS),
) -> list[list[int]]:
    """The tokens of each row up to its end or stop."""
    inputs = pad_left(prompts(rows), PAD)
    stops = Stops(Letters(), stop, inputs["input_ids"].shape[1], [limits[row] for row in rows])
    drawn = [RawPrompt(text=str(row), seed=1) for row in rows]
    sampler = Sampler(drawn, 0.7, None, None) if samples else None
    with torch.inference_mode():
        found = decoding.decode(model, inputs, stops, sampler, {END})
    cut = [list(row[:after]) for row, after in zip(found, stops.stopped_after, strict=True)]
    return [row[: row.index(END)] if END in row else row for row in cut]


@pytest.fixture
def in_one_call(monkeypatch: pytest.MonkeyPatch) -> Decode:
    """Decodes with the library's own cache."""

    def decode(*given: Any, **changes: Any) -> list[list[int]]:
        with monkeypatch.context() as patched:
            patched.setattr(decoding, "roomy_cache", lambda _: None)
            return decoded(*given, **changes)

    return decode


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_parts_give_what_one_call_gives(
    family: str, samples: bool, in_one_call: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(FAMILIES[family]())
    assert model.config._attn_implementation == "eager" or not family.startswith("eager")
    free = in_one_call(model, samples=samples)
    stop = (Letters().decode(free[0][4:6]), Letters().decode(free[3][9:10]))  # rows end at different times
    expected = in_one_call(model, stop, samples=samples)
    assert len({len(row) for row in expected}) > 2
    for part, room in PARTS:
        monkeypatch.setattr(decoding, "PART", part)
        monkeypatch.setattr(roomy_cache, "ROOM", room)
        assert decoded(model, stop, samples=samples) == expected
        assert decoded(model, samples=samples) == free


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_each_row_has_as_many_tokens_as_it_may(
    family: str, samples: bool, in_one_call: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(FAMILIES[family]())
    alone = [in_one_call(model, samples=samples, limits=LIMITS, rows=[row])[0] for row in range(N_ROWS)]
    assert sum(len(row) == limit for row, limit in zip(alone, LIMITS, strict=True)) > 4
    assert in_one_call(model, samples=samples, limits=LIMITS) == alone
    for part, room in PARTS:
        monkeypatch.setattr(decoding, "PART", part)
        monkeypatch.setattr(roomy_cache, "ROOM", room)
        assert decoded(model, samples=samples, limits=LIMITS) == alone
        assert decoded(model, samples=samples, limits=[1] * N_ROWS) == [row[:1] for row in alone]


@pytest.mark.parametrize("has_cache", [True, False])
def test_no_row_comes_to_a_position_that_the_model_lacks(
    has_cache: bool, in_one_call: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=16))
    limits = [16 - len(prompt) for prompt in prompts()]
    assert min(limits) == 10
    assert max(limits) == 14
    alone = [in_one_call(model, limits=limits, rows=[row])[0] for row in range(N_ROWS)]
    assert max(map(len, alone)) == 14
    for part, _ in PARTS:
        monkeypatch.setattr(decoding, "PART", part)
        assert (decoded if has_cache else in_one_call)(model, limits=limits) == alone


def test_a_library_that_does_not_tell_of_its_cache_decodes_in_one_call(
    in_one_call: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(FAMILIES["llama"]())
    expected = in_one_call(model, limits=LIMITS)
    monkeypatch.delattr(GenerationMixin, "_supports_default_dynamic_cache")
    monkeypatch.setattr(GenerationMixin, "_prepare_cache_for_generation", lambda *_: None)  # it asks the question too
    n_calls: list[int] = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: [n_calls.append(1), generate(**given)][1])
    assert decoded(model, limits=LIMITS) == expected
    assert len(n_calls) == 1


def test_rows_that_have_ended_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(FAMILIES["llama"]())
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: sizes.append(len(given["input_ids"])), with_kwargs=True)
    monkeypatch.setattr(decoding, "PART", 1)
    inputs = pad_left(prompts(), PAD)
    stops = Stops(Letters(), ("C", "D", "E", "F", "G", "H"), inputs["input_ids"].shape[1], LIMITS)
    with torch.inference_mode():
        rows = decoding.decode(model, inputs, stops, None, {END})
    lengths = [row.index(END) + 1 if END in row else len(row) for row in rows]
    assert min(lengths) < N_NEW
    assert sum(sizes) == sum(lengths)
