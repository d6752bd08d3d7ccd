"""Pure ASGI middleware: Starlette's BaseHTTPMiddleware would cost most of the server's time on the data path."""

import logging
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.errors import AgentTooOld
from coordinator.problems import TABLE, problem_reply
from shared.wire.base import OLDEST_PROTOCOL_VERSION, PROTOCOL_HEADER, PROTOCOL_VERSION

log = logging.getLogger("coordinator.access")


class ProtocolMiddleware:
    """Gives each request an id, answers with the protocol's version, and refuses one that is no longer served."""

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
                headers[PROTOCOL_HEADER] = str(PROTOCOL_VERSION)
            await send(message)

        spoken = Headers(scope=scope).get(PROTOCOL_HEADER, str(PROTOCOL_VERSION))
        if not spoken.isdecimal() or int(spoken) < OLDEST_PROTOCOL_VERSION:
            error = AgentTooOld(spoken, OLDEST_PROTOCOL_VERSION)
            code, kind, title = TABLE[AgentTooOld]
            reply = problem_reply(Request(scope), code, kind, title, str(error))
            await reply(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)
        took_ms = (time.monotonic() - started) * 1000
        log.debug("%s %s %d %.0f ms %s", scope["method"], scope["path"], status, took_ms, request_id)
