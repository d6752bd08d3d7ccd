"""The examples of a training as a trainer gets them: which of them it took is noted."""

from collections.abc import Sequence
from typing import overload

from agent.train.stack.base import Example


class HandedOut(Sequence[Example]):
    """Examples, and whether each was taken."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._taken = [False] * len(examples)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | Sequence[Example]:
        for index in range(len(self))[at] if isinstance(at, slice) else [at]:
            self._taken[index] = True
        return self._examples[at]

    def __len__(self) -> int:
        return len(self._examples)

    def left(self, begin: int) -> int:
        """The number of examples from *begin* on that were not taken."""
        return self._taken[begin:].count(False)
