"""Raw texts to tokens: by the rules of lm-evaluation-harness (0.4.13, MIT), or by those of training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.train.base.limits import InputLimits
from agent.train.data.encoder import Encoder

DEFAULT_POSITIONS = 2048
"""The window of a model without a limit, as in the harness."""


@dataclass(frozen=True)
class ScoredTokens:
    """Tokens that the model reads, and those at their end, one further, that are scored. n_cut: context that is gone.

    ``targets[-1]`` follows ``read[-1]``. problem: why they cannot be scored; empty if they can.
    """

    read: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    n_cut: int = 0
    problem: str = ""


class RawTokenizer:
    """Tokenises contexts, continuations and prompts of a base model. window: the most tokens that the model reads."""

    def __init__(self, tokenizer: Any, limits: InputLimits) -> None:
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer)
        self._limits = limits
        self.window = limits.n_positions or _own_limit(tokenizer) or DEFAULT_POSITIONS
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.first: int | None = bos if bos is not None else eos
        """The token before a text that follows nothing."""
        self._first_text = tokenizer.decode([self.first]) if self.first is not None else ""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, with the special ones that the tokenizer adds, unless it begins with the first."""
        if self._first_text and text.startswith(self._first_text):
            return self._plain(text)
        return list(self._tokenizer.encode(text))

    def pair(self, context: str, continuation: str, *, apart: bool = False) -> ScoredTokens:
        """A continuation after a context.

        apart: tokenise both by themselves, as prompts and answers of training. Otherwise white space at the end of the
        context belongs to the continuation.
        """
        if context == "":
            after = self._plain(continuation)
            if self.first is None:
                return ScoredTokens(problem="the context is empty, and the tokenizer has no token that begins a text")
            before = [self.first]
            if after[:1] == before:
                after = after[1:]
            return self.cut(before, after)
        if apart:
            return self.cut(self._prompt_of_training(context), self._encoder.encode_continuations([continuation])[0])
        bare = context.rstrip()
        whole = self.encode(context + continuation)
        before = self.encode(bare)
        return self.cut(before, whole[len(before) :])

    def _prompt_of_training(self, context: str) -> list[int]:
        opening = [] if self._first_text and context.startswith(self._first_text) else self._encoder.opening()
        return [*opening, *self._encoder.encode([context])[0]]

    def cut(self, before: Sequence[int], after: Sequence[int]) -> ScoredTokens:
        """Tokens *after* others, of which the first are cut until all fit."""
        if not after:
            return ScoredTokens(problem="the text to score has no tokens")
        if not before:
            return ScoredTokens(problem="the context has no tokens")
        if len(after) > self.window:
            return ScoredTokens(problem=_too_long(len(after), self.window))
        tokens = [*before, *after]
        n_cut = max(0, len(tokens) - self.window - 1)
        if problem := self._unknown(tokens[n_cut:]):
            return ScoredTokens(problem=problem)
        return ScoredTokens(tuple(tokens[n_cut:-1]), tuple(after), n_cut)

    def windows(self, text: str) -> Iterator[ScoredTokens]:
        """A whole text in windows: each token is scored once, after as many of those before it as its window has."""
        tokens = self.encode(text)
        if not tokens or self.first is None:
            problem = "the text has no tokens" if not tokens else "the tokenizer has no token that begins a text"
            yield ScoredTokens(problem=problem)
            return
        if problem := self._unknown(tokens):
            yield ScoredTokens(problem=problem)
            return
        for begin in range(0, len(tokens), self.window):
            end = min(begin + self.window, len(tokens))
            # the last window reaches back, so that it is as long as the others
            read = [self.first, *tokens][max(0, end - self.window) if begin else 0 : end]
            yield ScoredTokens(tuple(read), tuple(tokens[begin:end]))

    def prompt(self, text: str, max_new_tokens: int) -> ScoredTokens:
        """A prompt that leaves room for new tokens; it has no targets."""
        room = self.window - max_new_tokens
        if room < 1:
            return ScoredTokens(problem=_too_long(max_new_tokens + 1, self.window))
        bos = self._tokenizer.bos_token
        tokens = self._plain(text) if bos and text.startswith(bos) else list(self._tokenizer.encode(text))
        tokens = tokens or ([self.first] if self.first is not None else [])
        if not tokens:
            return ScoredTokens(problem="the prompt has no tokens")
        n_cut = max(0, len(tokens) - room)
        if problem := self._unknown(tokens[n_cut:]):
            return ScoredTokens(problem=problem)
        return ScoredTokens(tuple(tokens[n_cut:]), n_cut=n_cut)

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _unknown(self, tokens: Sequence[int]) -> str:
        n_embeddings = self._limits.n_embeddings
        if n_embeddings is None or max(tokens) < n_embeddings:
            return ""
        return "has tokens that the base model has no embedding for"


def _own_limit(tokenizer: Any) -> int | None:
    """The tokenizer's limit; None for the huge number that stands for none."""
    limit = tokenizer.model_max_length
    return int(limit) if limit is not None and limit < 1e9 else None


def _too_long(needed: int, window: int) -> str:
    return f"needs {needed} positions, and the model has {window}"
