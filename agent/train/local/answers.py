"""A model's answers to questions, each by itself, with prompts made as training makes them."""

import contextlib
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, set_seed

from agent.child import AnswerRequest
from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.train.data.templates import render
from agent.train.data.tokens import Tokenizing
from shared.wire.leases import FailureKind

_HALF_A_CHARACTER = "\ufffd"
"""What a tokenizer makes of bytes that are no character, or not yet."""


def answer(
    model: Any,
    ask: AnswerRequest,
    tokenizer: Any,
    *,
    half: torch.dtype | None,
    report: Callable[[int], None],
    say: Callable[[str], None],
) -> list[str]:
    """The text of each answer, in the order of the questions.

    model: bare, or with its adapter; its attributes are changed, so it should be lent. half: the base's dtype where it
    is bfloat16 or float16. report: called with the questions done. say: called with the pieces of an only answer.
    Raises TaskFailed (data) where a question leaves the model no room to answer.
    """
    if not ask.questions:
        return []
    prompts = _prompts(ask, tokenizer)
    _check_room(model, [tokens for tokens, _ in prompts], ask.max_new_tokens)
    model.eval()
    ends = {end for _, end in prompts} | _own_ends(model) | {tokenizer.eos_token_id}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    # in place of the model's own, which may draw tokens and punish repetition: greedy here means greedy
    model.generation_config = GenerationConfig(
        max_new_tokens=ask.max_new_tokens,
        do_sample=ask.temperature > 0,
        temperature=ask.temperature or None,
        top_k=0 if ask.temperature else None,
        eos_token_id=sorted(ends),
        pad_token_id=pad,
    )
    set_seed(ask.seed)
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, dtype=half) if half is not None else contextlib.nullcontext()
    texts = [""] * len(prompts)
    # the longest first: if memory is short it shows at once, and neighbours need little padding
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i][0]))
    with torch.inference_mode(), autocast:
        for begin in range(0, len(order), ask.micro_batch):
            some = order[begin : begin + ask.micro_batch]
            inputs = pad_left([prompts[i][0] for i in some], pad)
            pieces = _Pieces(tokenizer, ends, say) if len(prompts) == 1 else None
            found = model.generate(**{name: value.to(device) for name, value in inputs.items()}, streamer=pieces)
            for i, tokens in zip(some, found[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                texts[i] = _text(_until(tokens, ends), tokenizer)
            report(begin + len(some))
    return texts


def pad_left(prompts: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Prompts that end together, as ``input_ids`` and ``attention_mask``, each (prompts, longest)."""
    longest = max(map(len, prompts))
    input_ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, tokens in enumerate(prompts):
        input_ids[row, longest - len(tokens) :] = torch.tensor(tokens)
        attention_mask[row, longest - len(tokens) :] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def _prompts(ask: AnswerRequest, tokenizer: Any) -> list[tuple[list[int], int]]:
    """Each question's tokens, and the token that ends its answer: a training row with an answer, without the answer."""
    rows = [Row(question.prompt, question.input, completion="a") for question in ask.questions]
    found = []
    for row in Tokenizing(tokenizer, sys.maxsize).rows([render(row, ask.template, tokenizer) for row in rows]):
        assert row is not None  # nothing is too long
        tokens, supervised = row
        # an answer that is no word to the tokenizer looks like one that ends itself
        end = tokens[-1] if tokens[-1] != tokenizer.unk_token_id else tokenizer.eos_token_id
        found.append((tokens[: supervised.index(True)], end))
    return found


def _own_ends(model: Any) -> set[int]:
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    return set(own) if isinstance(own, list) else {own} if own is not None else set()


def _check_room(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0)
    if room is not None and longest + max_new_tokens > room:
        message = (
            f"a question has {longest} tokens, which with {max_new_tokens} new ones is more than the {room} that the "
            "base model takes: ask a shorter one, or lower the number of new tokens"
        )
        raise TaskFailed(FailureKind.DATA, message)


def _until(tokens: Sequence[int], ends: Collection[int]) -> Sequence[int]:
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens))]


def _text(tokens: Sequence[int], tokenizer: Any) -> str:
    """The text of generated tokens, without the space that a template may leave to the answer."""
    text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.lstrip()


class _Pieces:
    """A streamer, as ``generate`` takes one: says the text as it grows, in whole characters.

    All tokens are decoded each time: a token's text depends on those before it.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int], say: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._say = say
        self._tokens: list[int] | None = None
        self._said = 0

    def put(self, tokens: Tensor) -> None:
        """Take the prompt, (1, tokens), the first time, and one token, (1,), from then on."""
        if self._tokens is None:
            self._tokens = []
            return
        self._tokens += [token for token in tokens.tolist() if token not in self._ends]
        self._say_up_to(_text(self._tokens, self._tokenizer).rstrip(_HALF_A_CHARACTER))

    def end(self) -> None:
        self._say_up_to(_text(self._tokens or [], self._tokenizer))

    def _say_up_to(self, text: str) -> None:
        if len(text) > self._said:
            self._say(text[self._said :])
            self._said = len(text)
