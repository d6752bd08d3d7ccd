"""Generates answers to independent questions, with prompts in the form that training uses."""

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, set_seed

from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.orders.on_base.answer import Answered, AnswerRequest, Question
from agent.orders.protocol import LocalPhase, LocalProgress
from agent.train.base.device import autocast
from agent.train.base.limits import InputLimits, limits_of
from agent.train.data.rendering.templates import AnyTemplate, Renderer
from agent.train.data.tokenizing import TextTokenizer
from agent.train.local.generation.padding import sees_padding
from agent.train.local.model import find_model, loaded_model
from agent.train.local.streaming import AnswerDecoder, TextStreamer
from agent.train.order_context import OrderContext
from shared.wire.tasks.leases import FailureKind


@dataclass(frozen=True)
class Prompt:
    """A question's tokens, the token that ends its answer, and the white space before the answer in its template."""

    tokens: list[int]
    end: int
    lead: str


@dataclass(frozen=True)
class Generation:
    """How answers are made.

    Args:
        max_new_tokens: most tokens of one answer.
        micro_batch: questions that go through the model at once.
        temperature: 0 decodes greedily; above 0 tokens are sampled.
        seed: seed of the sampling.
    """

    max_new_tokens: int
    micro_batch: int
    temperature: float = 0.0
    seed: int = 0


def answer(order: AnswerRequest, context: OrderContext) -> Answered:
    """Answer the questions with the base model, or with the adapter on it. Raises TaskFailed.

    The answer to a single question is also sent piece by piece.
    """
    files = find_model(order, context)
    total = len(order.questions)
    with loaded_model(order, context, files, order.adapter) as (base, model):
        context.report(LocalProgress(phase=LocalPhase.ANSWERING, total=total))
        texts = generate_answers(
            model,
            order,
            files.tokenizer,
            autocast_dtype=base.autocast_dtype,
            report=lambda done: context.report(LocalProgress(phase=LocalPhase.ANSWERING, done=done, total=total)),
            on_text=context.on_text,
        )
    return Answered(texts=texts)


def generate_answers(
    model: Any,
    order: AnswerRequest,
    tokenizer: Any,
    *,
    autocast_dtype: torch.dtype | None,
    report: Callable[[int], None],
    on_text: Callable[[str], None],
) -> list[str]:
    """Return the text of each answer, in the order of the questions.

    Raises TaskFailed (data) if a question leaves the model no room for its answer.

    Args:
        model: a bare or a PEFT model, lent by ``Base``, as its attributes are changed.
        order: the questions, and how to sample.
        tokenizer: the base model's.
        autocast_dtype: the base's dtype if it is bfloat16 or float16, else None.
        report: called with the number of questions done.
        on_text: receives the answer piece by piece if there is only one question.
    """
    if not order.questions:
        return []
    prompts = prompts_with_ends(order.questions, order.template, tokenizer)
    _check_room(model, [prompt.tokens for prompt in prompts], order.max_new_tokens)
    how = Generation(order.max_new_tokens, order.micro_batch, order.temperature, order.seed)
    return answers_to(prompts, how, model, tokenizer, autocast_dtype=autocast_dtype, report=report, on_text=on_text)


def answers_to(
    prompts: Sequence[Prompt],
    how: Generation,
    model: Any,
    tokenizer: Any,
    *,
    autocast_dtype: torch.dtype | None,
    report: Callable[[int], None] = lambda _: None,
    on_text: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Return the text of each answer, in the order of the prompts, for which the model has room.

    Args:
        prompts: the prompts.
        how: how the answers are made.
        model, tokenizer, autocast_dtype, report, on_text: as in ``generate_answers``.
    """
    if not prompts:
        return []
    model.eval()
    decoders = {lead: AnswerDecoder(tokenizer, lead) for lead in {prompt.lead for prompt in prompts}}
    ends = {prompt.end for prompt in prompts} | model_ends(model) | {tokenizer.eos_token_id}
    pad = pad_of(tokenizer, limits_of(model.config))
    # It replaces the model's own configuration, which may sample and penalise repetition: temperature 0 means greedy.
    model.generation_config = GenerationConfig(
        max_new_tokens=how.max_new_tokens,
        do_sample=how.temperature > 0,
        temperature=how.temperature or None,
        top_k=0 if how.temperature else None,
        eos_token_id=sorted(ends),
        pad_token_id=pad,
    )
    alone = len(prompts) > 1 and sees_padding(model, prompts[0].tokens, autocast_dtype)
    at_once = 1 if alone else how.micro_batch
    set_seed(how.seed)
    device = next(model.parameters()).device
    texts = [""] * len(prompts)
    # the longest first, so that lack of memory shows at once, and a batch needs little padding
    by_length = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].tokens))
    with torch.inference_mode(), autocast(device, autocast_dtype):
        for begin in range(0, len(by_length), at_once):
            batch = by_length[begin : begin + at_once]
            inputs = pad_left([prompts[i].tokens for i in batch], pad)
            streamer = TextStreamer(decoders[prompts[0].lead], ends, on_text) if len(prompts) == 1 else None
            generated = model.generate(**{name: value.to(device) for name, value in inputs.items()}, streamer=streamer)
            new_tokens = generated[:, inputs["input_ids"].shape[1] :]  # (batch, new tokens)
            for i, tokens in zip(batch, new_tokens.tolist(), strict=True):
                texts[i] = decoders[prompts[i].lead].text(_before_end(tokens, ends))
            report(begin + len(batch))
    return texts


def pad_of(tokenizer: Any, limits: InputLimits) -> int:
    """The token to pad with: the tokenizer's, or that of its end if the model has no embedding for it."""
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if pad is not None and pad < (limits.n_embeddings or sys.maxsize):
        return int(pad)
    return int(eos) if eos is not None else 0


def pad_left(prompts: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Pad prompts on the left into ``input_ids`` and ``attention_mask``, each (prompts, longest prompt) int64."""
    longest = max(map(len, prompts))
    input_ids = torch.full((len(prompts), longest), pad, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, tokens in enumerate(prompts):
        input_ids[row, longest - len(tokens) :] = torch.tensor(tokens)
        attention_mask[row, longest - len(tokens) :] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def prompts_with_ends(questions: Sequence[Question], template: AnyTemplate, tokenizer: Any) -> list[Prompt]:
    """Each question as a prompt, and how its answer begins and ends, as training has them."""
    rows = [Row(question.prompt, question.input, completion="a") for question in questions]
    return prompts_of(rows, Renderer(template, tokenizer), tokenizer)


def prompts_of(rows: Sequence[Row], renderer: Renderer, tokenizer: Any) -> list[Prompt]:
    """The prompt of each row, and how its answer begins and ends, as training has them.

    Args:
        rows: training rows whose loss covers the last turn alone, with a placeholder there, which is cut off.
        renderer: of the template.
        tokenizer: the base model's.
    """
    texts = [renderer.render(row) for row in rows]
    prompts = []
    for text, token_row in zip(texts, TextTokenizer(tokenizer, sys.maxsize).rows(texts), strict=True):
        assert token_row is not None  # nothing is too long
        tokens, supervised = token_row
        reply = text.exchanges[-1].answer
        lead = reply[: len(reply) - len(reply.lstrip())]
        prompts.append(Prompt(tokens[: supervised.index(True)], tokens[-1], lead))
    return prompts


def model_ends(model: Any) -> set[int]:
    """The end tokens in the model's own generation configuration."""
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    return set(ends) if isinstance(ends, list) else {ends} if ends is not None else set()


def _check_room(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    room = limits_of(model.config).n_positions
    longest = max(map(len, prompts), default=0)
    if room is not None and longest + max_new_tokens > room:
        message = (
            f"a question has {longest} tokens, which with {max_new_tokens} new ones is more than the {room} that the "
            "base model takes: shorten the question, or lower the number of new tokens"
        )
        raise TaskFailed(FailureKind.DATA, message)


def _before_end(tokens: Sequence[int], ends: Collection[int]) -> Sequence[int]:
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens))]
