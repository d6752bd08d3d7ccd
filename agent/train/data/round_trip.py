"""Compares replies with the text that their tokens decode to: tokenizers normalise text, and lack characters."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.train.data.control_tokens import ControlTokens, bare
from agent.train.data.encoder import Encoder
from agent.train.data.rendering.texts import Text

_UNKNOWN = "characters become unknown tokens"
_WHITE_SPACE = "white space"
_COMPATIBLE = "case, accents or compatible characters"
_LOST = "characters are lost or replaced"


@dataclass(frozen=True)
class Decoded:
    """What the tokenizer makes of a text's supervised answers.

    Args:
        replies: how it changes earlier replies; empty if it does not.
        completion: how it changes the completion; empty if it does not.
        answer: the last answer as it decodes, without unknown tokens.
    """

    replies: frozenset[str]
    completion: str
    answer: str

    def leaves_nothing(self, text: Text, completion: str) -> bool:
        """Whether the last answer decodes to what the template put around *completion*, and to nothing of that."""
        if not self.completion and completion.strip():
            return False
        wanted, body, decoded = bare(completion), bare(text.exchanges[-1].answer), bare(self.answer)
        if len(body) - len(wanted) != len(decoded):
            return False
        place = body.find(wanted)
        while place >= 0 and body[:place] + body[place + len(wanted) :] != decoded:
            place = body.find(wanted, place + 1)
        return place >= 0


class RoundTrip:
    """Decodes answers with the tokenizer that encoded them."""

    def __init__(self, tokenizer: Any, encoder: Encoder, control: ControlTokens) -> None:
        self._encoder = encoder
        self._control = control
        unknown = tokenizer.unk_token_id
        self._unknown: int | None = unknown if unknown != tokenizer.eos_token_id else None

    def decode(self, texts: Sequence[Text], answers: Sequence[Sequence[list[int]]]) -> list[Decoded]:
        """Decode the supervised answers of each text. answers: the tokens of each, without an added end marker."""
        pairs = [
            (exchange.answer, tokens)
            for text, of_text in zip(texts, answers, strict=True)
            for exchange, tokens in zip(text.exchanges, of_text, strict=True)
            if exchange.supervised
        ]
        changes = iter(self._changes(pairs))
        decoded = []
        for text, of_text in zip(texts, answers, strict=True):
            *replies, (completion, answer) = [next(changes) for exchange in text.exchanges if exchange.supervised]
            if self._unknown in of_text[-1]:
                (answer,) = self._encoder.decode([[token for token in of_text[-1] if token != self._unknown]])
            decoded.append(Decoded(frozenset(how for how, _ in replies if how), completion, answer))
        return decoded

    def _changes(self, pairs: Sequence[tuple[str, list[int]]]) -> list[tuple[str, str]]:
        """For each text and its tokens: how the tokenizer changes the text, and the text that they decode to."""
        decoded = self._encoder.decode([tokens for _, tokens in pairs])
        different = [i for i, (text, _) in enumerate(pairs) if text != decoded[i]]
        # Some decoders drop a space at the beginning of a text, others put one between any two tokens.
        continued = self._encoder.decode_continuations([pairs[i][1] for i in different])
        changes = [("", text) for text in decoded]
        for i, continuation in zip(different, continued, strict=True):
            text, tokens = pairs[i]
            has_unknown = self._unknown in tokens
            ways = [self._change(text, each, has_unknown=has_unknown) for each in (decoded[i], continuation)]
            changes[i] = ("" if "" in ways else ways[0], decoded[i])
        return changes

    def _change(self, text: str, decoded: str, *, has_unknown: bool) -> str:
        """How *decoded* differs from *text*; empty if Unicode takes them for the same text."""
        first, second = (unicodedata.normalize("NFC", each) for each in (text, decoded))
        if first == second or self._control.unspaced(first) == self._control.unspaced(second):
            return ""
        if has_unknown:
            return _UNKNOWN
        if bare(first) == bare(second):
            return _WHITE_SPACE
        return _COMPATIBLE if _folded(first) == _folded(second) else _LOST


def _folded(text: str) -> str:
    """*text* without case, accents, white space and the forms of compatible characters."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return bare("".join(character for character in decomposed if not unicodedata.combining(character)))
