"""Encodes texts that continue others, whatever a tokenizer puts at the beginning of a text, and decodes them."""

from collections.abc import Sequence
from typing import Any

from agent.train.data.panics import panics_as_errors

_ANCHORS = ("\n", ":", ".", "a")
_PROBE = "a"


class Encoder:
    """Encodes and decodes without adding special tokens.

    Some tokenizers put a space before every text: SentencePiece, and byte-level ones with ``add_prefix_space``. A text
    that continues another is no beginning, so it is encoded after an anchor, whose tokens are then removed.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._anchors = self._find_anchors()
        self._before = self._anchors[0][1] if self._anchors else self.encode(["x"])[0]
        """Tokens of a text before the one to decode, for decoders that drop a space at the beginning."""

    def opening(self) -> list[int]:
        """Special tokens that the tokenizer puts before a text. Those that it puts after a text are not used."""
        bare = self.encode(["x"])[0]
        with panics_as_errors():
            full = self._tokenizer("x")["input_ids"]
        start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        return list(full[:start])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text as a beginning."""
        with panics_as_errors():
            encoded: list[list[int]] = self._tokenizer(
                list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
        return encoded

    def encode_continuations(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text after another text."""
        if not texts:
            return []
        encoded = self.encode(texts)
        left = list(range(len(texts)))
        for anchor, tokens in self._anchors:
            if not left:
                break
            anchored = self.encode([anchor + texts[i] for i in left])
            # the tokenizer may join the beginning of a text with an anchor, so that another one has to do
            joined = []
            for i, with_anchor in zip(left, anchored, strict=True):
                if with_anchor[: len(tokens)] == tokens:
                    encoded[i] = with_anchor[len(tokens) :]
                else:
                    joined.append(i)
            left = joined
        return encoded

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row's tokens, special ones included."""
        if not rows:
            return []
        with panics_as_errors():
            texts: list[str] = self._tokenizer.batch_decode(
                [list(row) for row in rows], clean_up_tokenization_spaces=False
            )
        return texts

    def decode_continuations(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text that each row's tokens add to a text before them."""
        before, *texts = self.decode([self._before, *([*self._before, *row] for row in rows)])
        return [text.removeprefix(before) for text in texts]

    def _find_anchors(self) -> list[tuple[str, list[int]]]:
        """Texts to encode continuations after, each with its tokens; none if a text has the same tokens anywhere."""
        usable: list[tuple[str, list[int]]] = []
        for anchor in _ANCHORS:
            tokens, joined, alone = self.encode([anchor, anchor + _PROBE, _PROBE])
            if not tokens or self._tokenizer.unk_token_id in tokens:  # could be one token with the text after it
                continue
            if not usable and joined == [*tokens, *alone]:
                return []
            if usable or joined[: len(tokens)] == tokens:
                usable.append((anchor, tokens))
        return usable
