"""Turns rendered rows into tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import TaskFailed
from agent.train.data.control_tokens import ControlTokens
from agent.train.data.encoder import Encoder
from agent.train.data.rendering.texts import Exchange, Text
from agent.train.data.tokens import TokenRow
from shared.wire.tasks.leases import FailureKind


@dataclass(frozen=True)
class EncodedText:
    """A text's tokens, not truncated. answers: the tokens of each answer, without an end marker that is added here."""

    row: TokenRow
    answers: tuple[list[int], ...]


class TextTokenizer:
    """Turns texts into exact tokens, independent of what the tokenizer adds at the start of a text.

    Prompts and answers are tokenised separately, so that no token spans a border. Special tokens are added once, here.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        """Raises TaskFailed (base-model) if *tokenizer* has no end-of-sequence token.

        max_length: in tokens, with the special ones.
        """
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.encoder = Encoder(tokenizer)
        self._opening = self.encoder.opening()
        self.control = ControlTokens(tokenizer)
        if tokenizer.eos_token_id is None:
            raise TaskFailed(FailureKind.BASE_MODEL, "the base model's tokenizer has no end-of-sequence token")

    def rows(self, texts: Sequence[Text]) -> Iterator[TokenRow | None]:
        """Each text's tokens, truncated to the maximum length; None if no supervised token is left."""
        for full in self.full_rows(texts):
            row = self.truncate(full)
            yield row if any(row[1]) else None

    def truncate(self, row: TokenRow) -> TokenRow:
        """The first tokens of a row, up to the maximum length."""
        tokens, supervised = row
        return tokens[: self.max_length], supervised[: self.max_length]

    def full_rows(self, texts: Sequence[Text]) -> Iterator[TokenRow]:
        """Each text's tokens, not truncated."""
        return (encoded.row for encoded in self.encode(texts))

    def encode(self, texts: Sequence[Text]) -> Iterator[EncodedText]:
        """Encode texts, all of them together."""
        first_prompts = iter(self.encoder.encode([text.exchanges[0].prompt for text in texts]))
        continuations = self.encoder.encode_continuations
        later_prompts = iter(continuations([exchange.prompt for text in texts for exchange in text.exchanges[1:]]))
        all_answers = iter(continuations([exchange.answer for text in texts for exchange in text.exchanges]))
        for text in texts:
            tokens = list(self._opening) if text.plain else []
            tokens += next(first_prompts)
            supervised = [False] * len(tokens)
            answers = []
            for number, exchange in enumerate(text.exchanges):
                if number > 0:
                    tokens += next(later_prompts)
                    supervised += [False] * (len(tokens) - len(supervised))
                answer = next(all_answers)
                answers.append(answer)
                needs_end = text.plain or number == len(text.exchanges) - 1
                if needs_end and not self._has_end(exchange, answer):
                    answer = [*answer, self.tokenizer.eos_token_id]
                tokens += answer
                supervised += [exchange.supervised] * len(answer)
            supervised[0] = False  # nothing precedes the first token, so nothing can predict it
            yield EncodedText((tokens, supervised), tuple(answers))

    def _has_end(self, exchange: Exchange, answer: list[int]) -> bool:
        """Whether the tokens of an answer end in the end-of-sequence token, or in the template's own end marker."""
        last = answer[-1] if answer else None
        return last == self.tokenizer.eos_token_id or (exchange.ended and last in self.control.end_ids)
