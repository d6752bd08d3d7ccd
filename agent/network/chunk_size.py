"""How large the chunks of uploads are: as the line allows, which each connection to the coordinator finds out anew."""

from shared.wire.base import CHUNK_BYTES

FIRST_BYTES = 1 << 20
MIN_BYTES = 1 << 16
_CHUNK_S = 5.0
_GROWTH, _GROWTH_AFTER_FAILURE = 2.0, 1.25


class ChunkSize:
    """The size of the next chunk, from one upload to the next.

    It at most doubles until a chunk of the upload fails, and grows by at most a quarter afterwards: otherwise every
    second chunk would fail on a connection with a fixed limit.
    """

    def __init__(self) -> None:
        self.n_bytes = FIRST_BYTES
        self._growth = _GROWTH

    def begin(self) -> None:
        """Begin an upload with the size that the last one ended with."""
        self._growth = _GROWTH

    def succeeded(self, seconds: float) -> None:
        """Adapt to a chunk of this size that took *seconds* including its reply."""
        factor = min(self._growth, max(0.5, _CHUNK_S / max(seconds, 1e-6)))
        self.n_bytes = min(CHUNK_BYTES, max(MIN_BYTES, int(self.n_bytes * factor)))

    def failed(self) -> None:
        """Adapt to a chunk of this size that did not arrive."""
        self.n_bytes = max(MIN_BYTES, self.n_bytes // 2)
        self._growth = _GROWTH_AFTER_FAILURE
