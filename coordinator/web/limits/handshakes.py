"""TLS handshakes that are limited from the moment a connection is accepted.

An event loop's own server tells nobody of a connection before its handshake has ended, so whoever opens connections and
says nothing would use all descriptors, and memory for TLS, unseen. Here the connections in their handshake have limits
of their own; above them the oldest makes room, which is no honest caller's: a handshake takes milliseconds.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ssl import SSLContext
from typing import Any

from coordinator.web.limits.connections import Connection, Connections

_ACCEPTED_AT_ONCE = 64
"""Connections accepted before others are served."""
_RETRY_S = 1.0
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger(__name__)


class HandshakeServer:
    """Accepts TLS connections. It has what uvicorn asks of an event loop's server.

    Args:
        sockets: bound sockets; the server owns them.
        new_protocol: makes the protocol of a connection whose handshake has ended.
        context: the certificate.
        limits: limits of the connections in their handshake.
        handshake_s: seconds in which a handshake must end.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        new_protocol: Callable[[], asyncio.BaseProtocol],
        context: SSLContext,
        limits: Connections,
        handshake_s: float,
    ) -> None:
        self.sockets = tuple(sockets)
        self._new_protocol = new_protocol
        self._context = context
        self._limits = limits
        self._handshake_s = handshake_s
        self._loop = asyncio.get_running_loop()
        self._handshakes: dict[asyncio.Task[None], Callable[[], None]] = {}
        self._is_closed = False

    def start(self, backlog: int) -> None:
        """Listen. backlog: most connections that wait to be accepted."""
        for each in self.sockets:
            each.setblocking(False)
            each.listen(backlog)
            self._listen(each)

    def close(self) -> None:
        """Accept nothing more, and end the handshakes in progress."""
        if self._is_closed:
            return
        self._is_closed = True
        for each in self.sockets:
            self._loop.remove_reader(each)
            each.close()
        for end in self._handshakes.values():
            end()

    async def wait_closed(self) -> None:
        """Wait until no handshake is in progress."""
        while self._handshakes:
            await asyncio.wait(list(self._handshakes))

    def _listen(self, listening: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_RESOURCES:  # the system reports the socket as ready all the while
                    log.error("cannot accept connections: %s; trying again", error)
                    self._loop.remove_reader(listening)
                    self._loop.call_later(_RETRY_S, self._listen, listening)
                    return
                continue  # the caller has gone
            self._begin(accepted, str(peer[0]))

    def _begin(self, accepted: socket.socket, host: str) -> None:
        accepted.setblocking(False)
        end = partial(_shut_down, accepted)
        counted = self._limits.add(host, end)
        if counted is None:
            accepted.close()
            return
        task = self._loop.create_task(self._handshake(accepted, counted))
        self._handshakes[task] = end
        task.add_done_callback(self._handshakes.pop)

    async def _handshake(self, accepted: socket.socket, counted: Connection) -> None:
        try:
            with contextlib.suppress(OSError):  # a caller who is no TLS client, too late, or had to make room
                await self._loop.connect_accepted_socket(
                    self._new_protocol, accepted, ssl=self._context, ssl_handshake_timeout=self._handshake_s
                )
        finally:
            self._limits.remove(counted)


def _shut_down(connection: socket.socket) -> None:
    """End a connection that the event loop holds: the loop then sees its end, and frees all of it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def with_limits(
    create_server: Callable[..., Awaitable[asyncio.Server]],
    limits: Connections,
    handshake_s: float,
) -> Any:
    """An event loop's *create_server* for TLS, with limits of the connections in their handshake."""

    async def create(
        new_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        host: str,
        port: int,
        ssl: SSLContext,
        backlog: int,
    ) -> HandshakeServer:
        # the loop's own server binds every address of a host, and never listens
        bound = await create_server(asyncio.Protocol, host, port, start_serving=False)
        sockets = [socket.fromfd(each.fileno(), each.family, each.type) for each in bound.sockets]
        bound.close()
        server = HandshakeServer(sockets, new_protocol, ssl, limits, handshake_s)
        server.start(backlog)
        return server

    return create
