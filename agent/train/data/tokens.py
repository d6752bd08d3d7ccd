"""Tokenised rows as arrays: rows of tokens, and the owner's rows, which have one or more of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from agent.train.base.limits import InputLimits
from shared.digest import sha256_hex, sha256_of_parts
from shared.kinds import Kind

IGNORED = -100
"""The label of a token that the loss skips."""

TokenRow = tuple[list[int], list[bool]]
"""A row's tokens, and which of them are supervised."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens, end to end: n rows of T tokens in total.

    ids: (T,) int32. supervised: (T,) bool, whether the loss covers the token. offsets: (n + 1,) int64, where each row
    begins, and T.
    """

    ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> Self:
        """Join single rows."""
        lengths = [0, *(len(tokens) for tokens, _ in rows)]
        total = sum(lengths)
        return cls(
            np.fromiter((token for tokens, _ in rows for token in tokens), np.int32, count=total),
            np.fromiter((flag for _, supervised in rows for flag in supervised), np.bool_, count=total),
            np.cumsum(lengths, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row, (n,)."""
        return np.diff(self.offsets)

    @property
    def n_supervised(self) -> NDArray[np.int64]:
        """The number of supervised tokens of each row, (n,)."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.supervised, dtype=np.int64)])  # (T + 1,)
        return np.diff(before[self.offsets])

    @cached_property
    def sha256(self) -> str:
        """The digest of all three arrays."""
        return sha256_of_parts(sha256_hex(array.data) for array in (self.ids, self.supervised, self.offsets))

    def take(self, indices: NDArray[np.int64]) -> Self:
        """The rows at *indices*, (k,), in that order."""
        parts = [slice(self.offsets[index], self.offsets[index + 1]) for index in indices]
        offsets = np.cumsum([0, *self.lengths[indices]], dtype=np.int64)
        ids = np.concatenate([np.empty(0, np.int32), *(self.ids[part] for part in parts)])
        supervised = np.concatenate([np.empty(0, np.bool_), *(self.supervised[part] for part in parts)])
        return type(self)(ids, supervised, offsets)

    def example(self, index: int) -> dict[str, list[int]]:
        """A row as ``input_ids`` and ``labels`` of equal length; labels of unsupervised tokens are IGNORED."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        ids = self.ids[part]
        return {"input_ids": ids.tolist(), "labels": np.where(self.supervised[part], ids, IGNORED).tolist()}


@dataclass(frozen=True)
class Samples:
    """n rows of the owner's data, each with c completions and l labels. A row of preferences has c = 2.

    completions: c n token rows; those of one row are neighbours, in the order of the kind's, and have one prompt.
    labels: (n, l) float64.
    """

    completions: TokenRows
    n_completions: int
    labels: NDArray[np.float64]

    @classmethod
    def of(cls, completions: Sequence[TokenRow], labels: Sequence[Sequence[float]], kind: Kind) -> Self:
        """Join the n rows of a kind. completions: c n token rows. labels: n times l numbers."""
        n_completions, n_labels = len(kind.completions), len(kind.labels)
        values = np.array(labels, dtype=np.float64).reshape(len(labels), n_labels)
        return cls(TokenRows.of(completions), n_completions, values)

    def __len__(self) -> int:
        return len(self.completions) // self.n_completions

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each row's longest completion with its prompt, (n,)."""
        return self.completions.lengths.reshape(-1, self.n_completions).max(axis=1)

    @cached_property
    def sha256(self) -> str:
        """The digest of the token rows and labels."""
        return sha256_of_parts([self.completions.sha256, sha256_hex(self.labels.tobytes())])

    def n_distinct(self, indices: Iterable[int] | None = None) -> int:
        """The number of distinct rows: copies of one row protect it no better than the row alone.

        indices: the rows to count among; None for all.
        """
        rows = range(len(self)) if indices is None else {int(index) for index in indices}
        firsts = (index * self.n_completions for index in rows)
        return len({self._content(self.completions, first, first + self.n_completions) for first in firsts})

    @staticmethod
    def _content(rows: TokenRows, start: int, stop: int) -> bytes:
        """The tokens of neighbouring token rows, with their lengths."""
        part = slice(rows.offsets[start], rows.offsets[stop])
        lengths = rows.offsets[start : stop + 1] - rows.offsets[start]
        return lengths.tobytes() + rows.ids[part].tobytes()

    def at(self, indices: NDArray[np.int64]) -> Self:
        """The rows at *indices*, (k,), in that order."""
        completions = self.completions.take(self.completions_of(indices).reshape(-1))
        return type(self)(completions, self.n_completions, self.labels[indices])

    def completions_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the completions of the rows at *indices*, (k,), are in ``completions``, (k, c)."""
        return indices[:, np.newaxis] * self.n_completions + np.arange(self.n_completions)

    def examples(self, index: int) -> list[dict[str, list[int]]]:
        """A row's c completions, each in the form of ``TokenRows.example``."""
        first = index * self.n_completions
        return [self.completions.example(first + place) for place in range(self.n_completions)]


@dataclass(frozen=True)
class TokenizedData:
    """An owner's data for one kind of training, model, template and length.

    dropped: the number of unusable rows. notices: what of the usable ones is not read or not learnt; each may leave the
    machine.
    """

    train: Samples
    held_out: Samples
    dropped: int
    notices: tuple[str, ...] = ()

    def fits(self, limits: InputLimits) -> bool:
        """Whether a model with these limits takes all rows."""
        parts = (self.train.completions, self.held_out.completions)
        longest, largest = (
            max((int(values.max()) for values in arrays if len(values)), default=0)
            for arrays in ([part.lengths for part in parts], [part.ids for part in parts])
        )
        return limits.takes(longest, largest)
