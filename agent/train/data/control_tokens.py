"""The tokenizer's special tokens: those that end a reply, and those in an owner's text."""

import re
from collections.abc import Iterable
from typing import Any

from agent.data.rows import Comparison, Row


class ControlTokens:
    """The special tokens of a tokenizer.

    ids: all of them. end_ids: those that may end a reply. Tokens that are unknown or masked, and those that begin a
    text, end nothing, unless the tokenizer uses one token for both.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder
        texts = {number: str(token.content) for number, token in added.items() if token.special}
        texts |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        no_ends = {getattr(tokenizer, f"{name}_token_id", None) for name in ("unk", "bos", "cls", "mask")} - {
            tokenizer.eos_token_id
        }
        self.ids = frozenset(texts)
        self.end_ids = self.ids - no_ends
        # An added token that is not special is also one token, so a model can learn that it ends an earlier reply.
        markers = texts | {number: str(token.content) for number, token in added.items()}
        self._ends = tuple({bare(text) for number, text in markers.items() if number not in no_ends} - {""})
        # the longest first, so that a token takes precedence over those that it contains
        spellings = sorted({text for text in texts.values() if text}, key=lambda text: (-len(text), text))
        self._spelling = re.compile(f"({'|'.join(map(re.escape, spellings))})") if spellings else None

    def end(self, text: str) -> bool:
        """Whether *text*, without white space, ends with an end marker."""
        return text.endswith(self._ends)

    def after_end(self, text: str) -> str:
        """What follows the first end marker in *text*; empty if there is none."""
        places = [(place, -len(end)) for end in self._ends if (place := text.find(end)) >= 0]
        if not places:
            return ""
        place, negative_length = min(places)
        return text[place - negative_length :]

    def unspaced(self, text: str) -> str:
        """*text* without the white space around special tokens, which some tokenizers add when they decode."""
        if self._spelling is None:
            return text
        first, *others = self._spelling.split(text)  # texts and tokens by turns
        if not others:
            return text
        return "".join([first.rstrip(), *(part.strip() for part in others[:-1]), others[-1].lstrip()])

    def first_in(self, row: Row | Comparison) -> str | None:
        """The first special token in the text of *row*, which becomes a control token there; None if there is none."""
        if self._spelling is None:
            return None
        found = (self._spelling.search(text) for text in _texts(row))
        return next((match.group() for match in found if match), None)


def bare(text: str) -> str:
    """*text* without white space, which templates trim and add."""
    return "".join(text.split())


def _texts(row: Row | Comparison) -> Iterable[str]:
    yield from (row.prompt, row.input)
    yield from (turn.text for turn in row.before)
    yield from (single.completion for single in row.completions)
