"""Turns rendered rows into tokens."""

from collections.abc import Iterator, Sequence
from typing import Any

from agent.errors import TaskFailed
from agent.train.data.control_tokens import ControlTokens
from agent.train.data.texts import Exchange, Text
from agent.train.data.tokens import TokenRow
from shared.wire.leases import FailureKind


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
        bare, full = self._encode(["x"])[0], tokenizer("x")["input_ids"]
        start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        self._opening = list(full[:start])
        """Special tokens that the tokenizer puts before a text. Those that it puts after a text are not used."""
        self._anchor: list[int] = []
        if tokenizer.convert_ids_to_tokens(self._encode(["a"])[0][:1])[0].startswith("▁"):
            # SentencePiece puts a space before every text. A part that continues another is no beginning, so it is
            # tokenised after a newline, whose tokens are then removed.
            self._anchor = self._encode(["\n"])[0]
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
        first_prompts = iter(self._encode([text.exchanges[0].prompt for text in texts]))
        later_prompts = iter(
            self._encode_continuations([exchange.prompt for text in texts for exchange in text.exchanges[1:]])
        )
        answers = iter(self._encode_continuations([exchange.answer for text in texts for exchange in text.exchanges]))
        for text in texts:
            tokens = list(self._opening) if text.plain else []
            tokens += next(first_prompts)
            supervised = [False] * len(tokens)
            for number, exchange in enumerate(text.exchanges):
                if number > 0:
                    tokens += next(later_prompts)
                    supervised += [False] * (len(tokens) - len(supervised))
                answer = next(answers)
                needs_end = text.plain or number == len(text.exchanges) - 1
                if needs_end and not self._has_end(exchange, answer):
                    answer = [*answer, self.tokenizer.eos_token_id]
                tokens += answer
                supervised += [exchange.supervised] * len(answer)
            supervised[0] = False  # nothing precedes the first token, so nothing can predict it
            yield tokens, supervised

    def _has_end(self, exchange: Exchange, answer: list[int]) -> bool:
        """Whether the tokens of an answer end in the end-of-sequence token, or in the template's own end marker."""
        last = answer[-1] if answer else None
        return last == self.tokenizer.eos_token_id or (exchange.ended and last in self.control.end_ids)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return encoded

    def _encode_continuations(self, texts: list[str]) -> list[list[int]]:
        """The tokens of texts that follow another text."""
        plain = self._encode(texts) if texts else []
        if not plain or not self._anchor:
            return plain
        size = len(self._anchor)
        anchored = self._encode([f"\n{text}" for text in texts])
        # the tokenizer may join a newline at the start of a text with the anchor's
        return [a[size:] if a[:size] == self._anchor else p for a, p in zip(anchored, plain, strict=True)]
