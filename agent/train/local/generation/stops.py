"""Where a generated text ends: at a string, or when it is long enough."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

_FURTHER = 2
"""Tokens beyond the bytes of a stop string that are looked at: a model may spell it with a token for each byte."""


class Stops(StoppingCriteria):
    """Ends each row of a batch once its text holds a stop string, or has as many tokens as it may.

    limits: most new tokens of each row. stopped_after: for each row the number of new tokens at which it held a stop
    string; None while it has not.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], n_before: int, limits: Sequence[int]) -> None:
        """n_before: tokens of the prompts, padding included."""
        self.limits = limits
        self._tokenizer = tokenizer
        self._stop = stop
        self._n_before = n_before
        self._n_looked_at = max((len(text.encode(errors="replace")) for text in stop), default=0) + _FURTHER
        self.stopped_after: list[int | None] = [None] * len(limits)
        self._rows = list(range(len(limits)))

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # noqa: ARG002 - transformers' signature
        """Whether each row ends here, (rows,)."""
        n_new = input_ids.shape[1] - self._n_before
        if self._stop:
            for row, tokens in zip(self._rows, input_ids[:, -min(n_new, self._n_looked_at) :].tolist(), strict=True):
                if self.stopped_after[row] is None and self._holds_stop(tokens, input_ids, row):
                    self.stopped_after[row] = n_new
        ended = [self.stopped_after[row] is not None or n_new >= self.limits[row] for row in self._rows]
        return torch.tensor(ended, device=input_ids.device)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the rows at these places of the batch alone."""
        self._rows = [self._rows[place] for place in places]

    def _holds_stop(self, last: Sequence[int], input_ids: Tensor, row: int) -> bool:
        end = self._tokenizer.decode(last, skip_special_tokens=True)
        if not any(text in end for text in self._stop):
            return False
        tokens = input_ids[self._rows.index(row), self._n_before :]
        whole = self._tokenizer.decode(tokens, skip_special_tokens=True)  # a part may be decoded to another text
        return any(text in whole for text in self._stop)


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    return text[: min((place for each in stop if (place := text.find(each)) >= 0), default=len(text))]
