"""HTTP/1.1 as uvicorn speaks it, with time-outs for what a caller sends and takes, and a limit of connections.

uvicorn itself only closes connections between two requests. Here a caller who sends nothing, a header by drops, a body
that does not advance, or who takes none of a reply, is disconnected. A slow line is no reason: what counts is progress.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from coordinator.settings import LimitSettings
from coordinator.web.limits.connections import Connection, Connections
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from shared.wire.problems import MEDIA_TYPE, Problem, ProblemType

MAX_HEADER_BYTES = 64 << 10
"""Most bytes of a request's header, with its first line. Valid ones have less than 2 kB."""
MIN_BODY_BYTES = 4 << 10
"""Bytes of a body that must arrive in ``limits.body_s``, unless it ends before."""
_FIELD_MARKS = 4
"""Bytes around a field's name and value: colon, space, end of line."""
MAX_WAITING = 4
"""Most requests of a connection that wait behind the one in progress. Our own clients send none before its answer."""
_CHECKS = 4
"""Checks of a connection within its shortest time-out."""


class _TooManyWaitingError(Exception):
    """Too many requests of a connection wait for their answers."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Times are the event loop's, in seconds.

    _head_since: when the header that is arriving began; None while none is. _head_bytes: bytes of the pieces that it
    came in. _field_bytes: bytes of its first line and of its fields that are complete. _window_since, _window_bytes:
    when the present measurement of the body's progress began, and what has arrived since. _unsent, _unsent_since: bytes
    of a reply that wait to be taken, and when they last became fewer.
    """

    def __init__(self, connections: Connections, limits: LimitSettings, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._all = connections
        self._limits = limits
        self._connection: Connection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_since: float | None = None
        self._head_bytes = self._field_bytes = 0
        self._in_body = False
        self._window_since, self._window_bytes = 0.0, 0
        self._unsent, self._unsent_since = 0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        self._connection = self._all.add(host, transport.abort)
        self._head_since = self._unsent_since = self.loop.time()
        self._timer = self.loop.call_later(self._check_s, self._check)
        if self._connection is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._all.remove(self._connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._connection is None:
            return
        if self._head_since is None and not self._in_body:
            self._begin_head()
        self._head_bytes += len(data)
        self._window_bytes += len(data)
        super().data_received(data)
        if self._head_since is not None and self._head_bytes > MAX_HEADER_BYTES:
            self._refuse_head()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_WAITING:
            raise _TooManyWaitingError  # the only way to stop the parser; uvicorn then calls send_400_response
        super().on_message_begin()
        self._field_bytes = 0
        if self._head_since is None:  # a request behind another in the same piece
            self._begin_head()
        self.scope["state"]["connection"] = self._connection

    def on_url(self, url: bytes) -> None:
        self._count_field(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_field(len(name) + len(value) + _FIELD_MARKS)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_since = None
        self._in_body = True
        self._window_since, self._window_bytes = self.loop.time(), 0
        if self._connection is not None:
            self._connection.begins()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._connection is not None and self._answers():
            self._connection.asks()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._connection is not None:
            self._connection.ends()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, a header that is too large, and too many requests at once."""
        if self.transport.is_closing():
            return  # the rest of what was refused before
        if len(self.pipeline) >= MAX_WAITING:
            self.pipeline.clear()
            msg = "too many requests wait on this connection; send the next one after the answer to the last"
            self._refuse(HTTPStatus.BAD_REQUEST, msg)
        elif self._field_bytes > MAX_HEADER_BYTES:
            self._refuse_head()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

    @property
    def _check_s(self) -> float:
        return min(self._limits.header_s, self._limits.body_s, self._limits.reply_s) / _CHECKS

    def _begin_head(self) -> None:
        self._head_since = self.loop.time()
        self._head_bytes = 0

    def _count_field(self, n_bytes: int) -> None:
        """Count bytes of a header. Raises ValueError if they are too many, which ends the parsing.

        A header may be complete in the piece that makes it too large, so the size of what arrived does not tell.
        """
        self._field_bytes += n_bytes
        if self._field_bytes > MAX_HEADER_BYTES:
            message = "the header is too large"
            raise ValueError(message)

    def _refuse_head(self) -> None:
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the header of the request is too large")

    def _check(self) -> None:
        """Disconnect a caller who makes no progress; otherwise look again later."""
        now = self.loop.time()
        self._timer = self.loop.call_later(self._check_s, self._check)
        if self._takes_nothing(now):
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self.flow.read_paused or (self._head_since is not None and self._answers()):
            self._restart(now)  # nothing is read now, or the next header comes early: no fault of the caller
        elif self._head_since is not None and now - self._head_since > self._limits.header_s:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the header of a request did not arrive in time")
        elif self._in_body and now - self._window_since > self._limits.body_s:
            if self._window_bytes < MIN_BODY_BYTES:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the body of the request does not advance")
            else:
                self._restart(now)

    def _takes_nothing(self, now: float) -> bool:
        """Whether the caller has taken nothing of a reply for too long, or does not let the connection end."""
        unsent, closing = self.transport.get_write_buffer_size(), self.transport.is_closing()
        if unsent < self._unsent or not (unsent or closing):
            self._unsent_since = now
        self._unsent = unsent
        return now - self._unsent_since > (self._limits.header_s if closing else self._limits.reply_s)

    def _restart(self, now: float) -> None:
        """Begin the measurements of header and body anew."""
        self._window_since, self._window_bytes = now, 0
        if self._head_since is not None:
            self._head_since = now

    def _answers(self) -> bool:
        """Whether a request is in progress."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem, unless a reply has begun, and close the connection."""
        if self._answers() and self.cycle.response_started:
            self.transport.abort()
            return
        kind = ProblemType.UNAVAILABLE if status == HTTPStatus.SERVICE_UNAVAILABLE else ProblemType.BAD_REQUEST
        retryable = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.REQUEST_TIMEOUT)
        problem = Problem(type=kind.uri, title=status.phrase, status=status, detail=detail, retryable=retryable)
        body = problem.model_dump_json().encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            f"{PROTOCOL_HEADER.lower()}: {PROTOCOL}",
            *(["retry-after: 5"] if retryable else []),
            "connection: close",
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
