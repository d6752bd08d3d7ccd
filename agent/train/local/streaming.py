"""The text of generated tokens, whole or as it grows."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor

_INCOMPLETE = "\ufffd"
"""The character that a tokenizer decodes invalid bytes to, such as the first bytes of a longer character."""


def text_of(tokens: Sequence[int], tokenizer: Any) -> str:
    """Return the text of generated tokens, without the leading space that some templates count to the answer."""
    text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.lstrip()


class TextStreamer:
    """A streamer for ``generate``: passes the growing text on, in whole characters.

    All tokens are decoded each time, because a token's text depends on the tokens before it.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int], on_text: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
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
        self._send(text_of(self._tokens, self._tokenizer).rstrip(_INCOMPLETE))

    def end(self) -> None:
        """Send the rest, called after the last token."""
        self._send(text_of(self._tokens or [], self._tokenizer))

    def _send(self, text: str) -> None:
        """Pass on what of the whole *text* was not sent yet."""
        if len(text) > self._n_sent:
            self._on_text(text[self._n_sent :])
            self._n_sent = len(text)
