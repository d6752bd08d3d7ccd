"""How much is read from a connection at once."""

import asyncio
from typing import Any

READ_BYTES = 64 << 10


class SmallReads(asyncio.BufferedProtocol):
    """Hands what arrives on a connection to a protocol, in pieces of at most the buffer's size.

    An event loop reads 256 KB at once, and uvicorn keeps a piece of a body before anyone asks for it: with many agents
    that send at the same time, most of the coordinator's memory would be such pieces.

    Args:
        protocol: the connection's.
        buffer: of READ_BYTES. A server's connections share it: the loop fills it and hands it over in one step.
    """

    def __init__(self, protocol: asyncio.Protocol, buffer: bytearray) -> None:
        self._protocol = protocol
        self._buffer = memoryview(buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def get_buffer(self, _sizehint: int) -> Any:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))
