"""The text of generated tokens, whole or as it grows."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor

_INCOMPLETE = "\ufffd"
"""The character that a tokenizer decodes invalid bytes to, such as the first bytes of a longer character."""
_BEFORE = "a"
"""A text before the answer, for tokenizers that drop the space at the beginning of what they decode."""


class AnswerDecoder:
    """Turns the tokens of an answer into its text, in which white space is kept as generated.

    lead: what the template puts between prompt and answer and counts to the answer, such as a space. The text is
    without it.
    """

    def __init__(self, tokenizer: Any, lead: str = "") -> None:
        self.lead = lead
        self._tokenizer = tokenizer
        before = tokenizer(_BEFORE, add_special_tokens=False)["input_ids"]
        drops_spaces = tokenizer.convert_ids_to_tokens(before[:1])[0].startswith("▁")
        self._before: list[int] = list(before) if drops_spaces else []
        self._n_before = len(self._decode(self._before))

    def text(self, tokens: Sequence[int]) -> str:
        """The answer's text. Empty as long as it may be a part of the lead."""
        text = self._decode([*self._before, *tokens])[self._n_before :]
        return "" if self.lead.startswith(text) else text.removeprefix(self.lead)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class TextStreamer:
    """A streamer for ``generate``: passes the growing text on, in whole characters.

    All tokens are decoded each time, because a token's text depends on the tokens before it.
    """

    def __init__(self, decoder: AnswerDecoder, ends: Collection[int], on_text: Callable[[str], None]) -> None:
        self._decoder = decoder
        self._ends = ends
        self._on_text = on_text
        self._tokens: list[int] | None = None
        self._n_sent = 0  # characters

    def put(self, tokens: Tensor) -> None:
        """Take the prompt, (1, tokens), in the first call, and one token, (1,), in each later call."""
        if self._tokens is None:
            self._tokens = []
            return
        self._tokens += [token for token in tokens.tolist() if token not in self._ends]
        self._send(self._decoder.text(self._tokens).rstrip(_INCOMPLETE))

    def end(self) -> None:
        """Send the rest, called after the last token."""
        self._send(self._decoder.text(self._tokens or []))

    def _send(self, text: str) -> None:
        """Pass on what of the whole *text* was not sent yet."""
        if len(text) > self._n_sent:
            self._on_text(text[self._n_sent :])
            self._n_sent = len(text)
