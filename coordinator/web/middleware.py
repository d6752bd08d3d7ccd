"""Pure ASGI middleware: Starlette's BaseHTTPMiddleware would cost most of the server's time on the data path."""

import asyncio
import contextlib
import logging
import secrets
import time
from http import HTTPStatus

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.errors import CoordinatorError, ProtocolNotServed
from coordinator.web.limits.admission import PROBES, Admission
from coordinator.web.limits.bodies import has_body
from coordinator.web.limits.encodings import check_encoding
from coordinator.web.parameters import check_query_length
from coordinator.web.problems import domain_error_reply
from coordinator.web.router import QuickRouter
from shared.wire import base
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER

_SHOWN_CHARS = 200
"""Characters of a path in the log, which a caller without a key can make 64 kB long."""
_LINGER_BYTES, _LINGER_S, _LINGER_IDLE_S = 256 << 10, 1.0, 0.2

_OF_PROTOCOL = (PROTOCOL_HEADER.lower().encode(), PROTOCOL.encode())

log = logging.getLogger("coordinator.access")


class ProtocolApp(FastAPI):
    """A FastAPI application inside ProtocolMiddleware, which thus also covers replies to unexpected errors."""

    def build_middleware_stack(self) -> ASGIApp:
        """FastAPI's own, less its telemetry, its limit of bodies and its stacks, which ``BoundedRoute`` has."""
        admission: Admission = self.state.admission
        handlers = {of: handler for of, handler in self.exception_handlers.items() if of is not Exception}
        answering = ExceptionMiddleware(QuickRouter(self.router), handlers)
        return ProtocolMiddleware(ServerErrorMiddleware(answering, self.exception_handlers[Exception]), admission)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request without FastAPI's telemetry, which looks at its settings each time."""
        if scope["type"] == "http" and self.middleware_stack is not None:
            scope["app"] = self
            await self.middleware_stack(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class ProtocolMiddleware:
    """Gives each request an id and each reply the protocol version; refuses other protocols.

    It also limits and counts requests without a valid key, by address, and has the connection closed where a body was
    not read to its end: otherwise the server would take the rest of it, however slowly it came.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        headers = Headers(scope=scope)
        started, status, is_read = time.monotonic(), 0, not has_body(headers)

        async def receive_and_note() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body", False)
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), _OF_PROTOCOL]
                if not is_read:
                    MutableHeaders(scope=message)["Connection"] = "close"
            elif not (is_read or message.get("more_body", False)):
                await send({**message, "more_body": True})
                await _discard(receive_and_note)
                message = {"type": "http.response.body"}
            await send(message)

        host = scope["client"][0] if scope.get("client") else ""
        try:
            self._check(headers, host, scope)
        except CoordinatorError as error:
            await domain_error_reply(Request(scope), error)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive_and_note, send_with_headers)
        finally:
            if "caller" not in state and _counts(status, scope):
                self._admission.note_refused(host)
            took_ms = (time.monotonic() - started) * 1000
            log.debug("%s %s %d %.0f ms %s", scope["method"], scope["path"][:_SHOWN_CHARS], status, took_ms, request_id)

    def _check(self, headers: Headers, host: str, scope: Scope) -> None:
        """Raise ProtocolNotServed, QueryTooLong, EncodedBody, and TooManyRequests for a request without any key.

        With a key, valid or not, the limit of the address is checked where its caller is looked for.
        """
        spoken = headers.get(PROTOCOL_HEADER, PROTOCOL)  # curl sends none
        if spoken not in base.SERVED_PROTOCOLS:
            raise ProtocolNotServed(spoken[:20])
        if "Authorization" not in headers and scope["path"] not in PROBES:
            self._admission.check_address(host)
        check_query_length(scope["query_string"])
        check_encoding(headers)


def _counts(status: int, scope: Scope) -> bool:
    """Whether a request without a valid key counts for its address: it was refused, or read a public page."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return False
    return 400 <= status < 500 or (status < 400 and scope["method"] == "GET" and scope["path"] not in PROBES)


async def _discard(receive: Receive) -> None:
    """Throw away a little more of a body after the reply to it.

    If a connection is closed while its caller still sends, the caller may see a broken connection instead of the reply.
    """
    n_bytes, until = 0, time.monotonic() + _LINGER_S
    with contextlib.suppress(TimeoutError):
        while n_bytes < _LINGER_BYTES and time.monotonic() < until:
            message = await asyncio.wait_for(receive(), _LINGER_IDLE_S)
            n_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                return
