"""What bodies have in memory while they are written: a bounded sum, however many there are."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from coordinator.storage.chunks.chunk import Chunk
from coordinator.tasks.transfer import receiving
from coordinator.tasks.transfer.receiving import receive
from coordinator.tasks.transfer.shares import Shares

PIECE, N_PIECES = 1000, 100


class NotedChunk(Chunk):
    """Notes the bytes of each write. fails_at: the write that fails."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__(0)
        self.written: list[int] = []
        self.data = b""
        self._fails_at = fails_at

    def _write(self, pieces: Sequence[bytes]) -> None:
        if len(self.written) == self._fails_at:
            raise OSError("broken")
        self.written.append(sum(map(len, pieces)))
        self.data += b"".join(pieces)

    def _sync(self) -> None:
        pass


async def pieces_of(n_pieces: int) -> AsyncIterator[bytes]:
    for number in range(n_pieces):
        await asyncio.sleep(0)
        yield bytes([number % 256]) * PIECE


@pytest.mark.parametrize(("n_bodies", "share"), [(1, 20_000), (4, 10_000), (40, 4_000)])
def test_bodies_share_one_sum(monkeypatch: pytest.MonkeyPatch, n_bodies: int, share: int) -> None:
    monkeypatch.setattr(receiving, "_SHARES", Shares(40_000, least=4_000, most=20_000))
    chunks = [NotedChunk() for _ in range(n_bodies)]

    async def main() -> None:
        await asyncio.gather(*(receive(pieces_of(N_PIECES), chunk) for chunk in chunks))

    asyncio.run(main())
    whole = b"".join(bytes([number]) * PIECE for number in range(N_PIECES))
    for chunk in chunks:
        assert chunk.data == whole
        assert chunk.n_bytes == len(whole)
    assert 4_000 <= max(chunks[-1].written) <= share
    assert receiving._SHARES.n_bytes == 20_000, "all have given theirs back"


@pytest.mark.parametrize("fails_at", [0, 2])
def test_a_write_that_fails_ends_the_body(monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    monkeypatch.setattr(receiving, "_SHARES", Shares(8_000, least=4_000, most=8_000))
    chunk = NotedChunk(fails_at)
    with pytest.raises(OSError, match="broken"):
        asyncio.run(receive(pieces_of(N_PIECES), chunk))
    assert len(chunk.written) == fails_at
