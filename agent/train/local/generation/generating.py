"""Texts after raw prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from agent.orders.on_base.generate import GenerateRequest, RawGenerated, RawText
from agent.orders.protocol import LocalPhase, LocalProgress
from agent.train.base.device import autocast
from agent.train.base.model import Base
from agent.train.base.on_disk.finder import BaseFiles
from agent.train.local.answers import model_ends, pad_left, pad_of
from agent.train.local.generation.cache_room import bytes_a_token, n_together
from agent.train.local.generation.decoding import decode
from agent.train.local.generation.padding import sees_padding
from agent.train.local.generation.sampling import Sampler
from agent.train.local.generation.stops import Stops, before_stop
from agent.train.local.model import find_model, loaded_model
from agent.train.local.raw_tokens import RawTokenizer, ScoredTokens
from agent.train.order_context import OrderContext


def generate(order: GenerateRequest, context: OrderContext) -> RawGenerated:
    """Go on after the prompts. Raises TaskFailed if the base model or the adapter cannot be used."""
    files = find_model(order, context)
    raw = RawTokenizer(files.tokenizer, files.limits)
    prompts = [raw.prompt(prompt.text, prompt.max_new_tokens) for prompt in order.prompts]
    sizes = [(len(read.read), prompt.max_new_tokens) for read, prompt in zip(prompts, order.prompts, strict=True)]
    texts = [RawText(problem=prompt.problem) for prompt in prompts]
    # the longest first, so that lack of memory shows at once, and a batch needs little padding
    usable: Sequence[int] = sorted(
        (i for i, each in enumerate(prompts) if not each.problem), key=lambda i: (-sum(sizes[i]), -sizes[i][0])
    )
    context.warm.longest_row_tokens = sum(sizes[usable[0]]) if usable else 0
    total, done = len(prompts), len(prompts) - len(usable)

    def report() -> None:
        context.report(LocalProgress(phase=LocalPhase.ANSWERING, done=done, total=total))

    with loaded_model(order, context, files, order.adapter) as (base, model):
        report()
        generator = _Generator(order, base, model, files)
        at_once = min(order.micro_batch, len(usable))
        if at_once > 1 and sees_padding(model, prompts[usable[0]].read, base.autocast_dtype):
            at_once = 1
        while usable:
            n = n_together([sizes[i] for i in usable], at_once, generator.bytes_a_token)
            batch, usable = usable[:n], usable[n:]
            for i, text in zip(batch, generator.texts(batch, [prompts[i] for i in batch]), strict=True):
                texts[i] = text
            done += len(batch)
            report()
    return RawGenerated(texts=texts)


@dataclass(frozen=True)
class _Sampling:
    """The sampling of the model's own generation configuration."""

    top_k: int | None
    top_p: float | None


class _Generator:
    """Generates batches of texts with a model that ``Base`` lends, whose generation configuration is replaced."""

    def __init__(self, order: GenerateRequest, base: Base, model: Any, files: BaseFiles) -> None:
        self._order, self._base, self._model, self._tokenizer = order, base, model, files.tokenizer
        model.eval()
        self.bytes_a_token = bytes_a_token(model)
        own = model.generation_config
        self._own = _Sampling(getattr(own, "top_k", None), getattr(own, "top_p", None))
        eos = files.tokenizer.eos_token_id
        self._ends = model_ends(model) | ({eos} if eos is not None else set())
        self._pad = pad_of(files.tokenizer, files.limits)
        # It replaces the model's own configuration, which may sample and penalise repetition.
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=sorted(self._ends) or None, pad_token_id=self._pad
        )

    def texts(self, batch: Sequence[int], prompts: Sequence[ScoredTokens]) -> list[RawText]:
        """The texts after prompts. batch: their places in the order."""
        inputs = pad_left([prompt.read for prompt in prompts], self._pad)
        drawn = [self._order.prompts[i] for i in batch]
        limits = [prompt.max_new_tokens for prompt in drawn]
        stops = Stops(self._tokenizer, self._order.stop, inputs["input_ids"].shape[1], limits)
        sampler = None
        if self._order.temperature > 0:
            sampler = Sampler(drawn, self._order.temperature, self._own.top_k, self._own.top_p)
        with torch.inference_mode(), autocast(self._base.device, self._base.autocast_dtype):
            there = {name: value.to(self._base.device) for name, value in inputs.items()}
            rows = decode(self._model, there, stops, sampler, self._ends)
        return [
            self._text(row, stopped, prompt)
            for row, stopped, prompt in zip(rows, stops.stopped_after, prompts, strict=True)
        ]

    def _text(self, tokens: Sequence[int], stopped_after: int | None, prompt: ScoredTokens) -> RawText:
        """The text of generated tokens. stopped_after: how many there were when a stop string was complete."""
        tokens = tokens[:stopped_after]
        end = next((i for i, token in enumerate(tokens) if token in self._ends), None)
        whole = self._tokenizer.decode(tokens[:end], skip_special_tokens=True)
        text = before_stop(whole, self._order.stop)
        is_complete = end is not None or text != whole
        n_tokens = len(tokens) if end is None else end + 1
        return RawText(text=text, n_tokens=n_tokens, is_complete=is_complete, n_cut=prompt.n_cut)
