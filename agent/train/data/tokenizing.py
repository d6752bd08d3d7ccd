"""Turns rendered rows into tokens, and finds the rows that cannot be trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from agent.data import reading
from agent.data.rows import Comparison, Row
from agent.errors import TaskFailed
from agent.train.data.templates import AnyTemplate, Text, render
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
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = special | set(tokenizer.all_special_ids)
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
                if needs_end and not (answer and answer[-1] in self._special):
                    answer = [*answer, self.tokenizer.eos_token_id]
                tokens += answer
                supervised += [exchange.supervised] * len(answer)
            supervised[0] = False  # nothing precedes the first token, so nothing can predict it
            yield tokens, supervised

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


@dataclass(frozen=True)
class TokenizedRow:
    """The tokens of a row's completions, each with its prompt.

    full: all tokens; empty if the row has an empty completion or two equal ones. truncated: the tokens within the
    maximum length. labels: the row's. skip_reason: why the row is skipped; empty if it is used.
    """

    full: list[TokenRow]
    truncated: list[TokenRow]
    labels: tuple[float, ...]
    skip_reason: str


def tokenize_rows(
    rows: Sequence[Row | Comparison], template: AnyTemplate, tokenizer: TextTokenizer
) -> Iterator[TokenizedRow]:
    """Tokenise each row's completions. Raises TaskFailed (data) if the template refuses a row."""
    usable = [row for row in rows if not reading.skip_reason(row)]
    tokens = tokenizer.full_rows(
        [render(completion, template, tokenizer.tokenizer) for row in usable for completion in row.completions]
    )
    for row in rows:
        skip_reason = reading.skip_reason(row)
        full = [next(tokens) for _ in row.completions] if not skip_reason else []
        truncated = [tokenizer.truncate(token_row) for token_row in full]
        if not all(any(supervised) for _, supervised in truncated):
            skip_reason = f"no room for its completion in {tokenizer.max_length} tokens"
        elif any(truncated[i] == truncated[j] for i, j in combinations(range(len(truncated)), 2)):
            skip_reason = f"completions that are equal in their first {tokenizer.max_length} tokens"
        yield TokenizedRow(full, truncated, row.labels, skip_reason)
