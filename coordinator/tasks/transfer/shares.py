"""Memory of transfers: one sum for all that are under way. Many agents need no more of it than a few, until each has
the least that a transfer works with."""

from collections.abc import Iterator
from contextlib import contextmanager


class Shares:
    """Parts of a sum of bytes.

    Args:
        total: bytes that all have together.
        least: bytes that each has at least, however many there are.
        most: bytes that are enough for one.
    """

    def __init__(self, total: int, least: int, most: int) -> None:
        self._total = total
        self._least = least
        self._most = most
        self._n_taken = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of each share now."""
        return max(self._least, min(self._most, self._total // max(1, self._n_taken)))

    @property
    def are_scarce(self) -> bool:
        """Whether there are so many that each has the least."""
        return self.n_bytes == self._least

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have a share while the block runs."""
        self._n_taken += 1
        try:
            yield
        finally:
            self._n_taken -= 1
