"""Sampling that depends on the prompt, the seed and the number of the sample alone, and not on the batch."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from agent.orders.on_base.generate import RawPrompt


class Sampler(LogitsProcessor):
    """Adds Gumbel noise to the logits of each row from a generator of its own.

    The likeliest token is then a draw from the softmax of the logits, so greedy decoding samples.
    """

    def __init__(
        self, prompts: Sequence[RawPrompt], temperature: float, top_k: int | None, top_p: float | None
    ) -> None:
        """top_k, top_p: as transformers has them; None, 0 and 1 leave all tokens."""
        self._temperature = temperature
        self._warpers: list[Any] = []
        if top_k:
            self._warpers.append(TopKLogitsWarper(top_k))
        if top_p is not None and top_p < 1:
            self._warpers.append(TopPLogitsWarper(top_p))
        self._generators = [torch.Generator().manual_seed(_seed(prompt)) for prompt in prompts]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the rows at these places of the batch alone."""
        self._generators = [self._generators[place] for place in places]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores: logits, (rows, vocabulary)."""
        scores = scores.float() / self._temperature
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        n = scores.shape[-1]
        noise = torch.stack([-torch.empty(n).exponential_(generator=each).log() for each in self._generators])
        return scores + noise.to(scores.device)


def _seed(prompt: RawPrompt) -> int:
    key = f"{prompt.seed} {prompt.sample} {prompt.text}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:7], "big")
