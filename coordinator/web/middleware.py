"""Pure ASGI middleware: Starlette's BaseHTTPMiddleware would cost most of the server's time on the data path."""

import logging
import secrets
import sys
import time

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.database.numbers import read_number
from coordinator.errors import CoordinatorError, ProtocolNotServed, TooLarge
from coordinator.web.problems import TABLE, problem_reply
from shared.wire import base
from shared.wire.base import CHUNK_BYTES, PROTOCOL, PROTOCOL_HEADER

MAX_BODY_BYTES = 1 << 20
"""Largest request body, in bytes. Valid bodies are far smaller, so this is no setting. Upload chunks have a limit of
their own."""

log = logging.getLogger("coordinator.access")


class ProtocolApp(FastAPI):
    """A FastAPI application inside ProtocolMiddleware, which thus also covers replies to unexpected errors."""

    def build_middleware_stack(self) -> ASGIApp:
        return ProtocolMiddleware(super().build_middleware_stack())


class ProtocolMiddleware:
    """Gives each request an id and each reply the protocol version; refuses other protocols and too large bodies.

    (FastAPI's own limit answers in plain text, which agents take for a proxy's page.)
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers[PROTOCOL_HEADER] = PROTOCOL
            await send(message)

        limit = CHUNK_BYTES if scope["path"].startswith("/v1/uploads/") else MAX_BODY_BYTES
        try:
            _check_headers(Headers(scope=scope), limit)
        except CoordinatorError as error:
            code, kind, title = TABLE[type(error)]
            await problem_reply(Request(scope), code, kind, title, str(error))(scope, receive, send_with_headers)
        else:
            await self._app(scope, _limited(receive, limit), send_with_headers)
        finally:
            took_ms = (time.monotonic() - started) * 1000
            log.debug("%s %s %d %.0f ms %s", scope["method"], scope["path"], status, took_ms, request_id)


def _check_headers(headers: Headers, limit: int) -> None:
    """Raise ProtocolNotServed or TooLarge, before the first byte of the body is read."""
    protocol = headers.get(PROTOCOL_HEADER, PROTOCOL)  # curl sends none
    if protocol not in base.SERVED_PROTOCOLS:
        raise ProtocolNotServed(protocol[:20])
    announced = read_number(headers.get("Content-Length", "0"))
    n_bytes = sys.maxsize if announced is None else announced
    if n_bytes > limit:
        raise TooLarge(n_bytes, limit)


def _limited(receive: Receive, limit: int) -> Receive:
    """Wrap *receive* so that it raises once a body without a Content-Length exceeds the limit."""
    n_bytes = 0

    async def limited() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > limit:
            raise HTTPException(413, str(TooLarge(n_bytes, limit)))  # the only exception that body parsers pass on
        return message

    return limited
