"""The class of all endpoints' routes: who asks, with what, and how much, is settled before a body is read."""

import warnings
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.services import Services
from coordinator.web import authentication
from coordinator.web.authentication import Agent, Caller
from coordinator.web.direct import Direct, is_simple
from coordinator.web.limits.admission import Admission
from coordinator.web.limits.bodies import DEFAULT_BODY_BYTES, BoundedRequest, declared_limit, has_body
from coordinator.web.parameters import check_parameters, query_parameters

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

# FastAPI silences it while it makes a route. The validators of our messages are built later, at their first use.
warnings.simplefilter("ignore", UnsupportedFieldAttributeWarning)


class BoundedRoute(APIRoute):
    """A route that refuses a caller without the right key, and a query that it does not know, before it reads a body.

    FastAPI reads and parses the body first, and checks the caller together with it. Whom an endpoint serves follows
    from its own dependencies (``OperatorDep``, ``AgentDep``, ``CallerDep``); how large a body it takes, from ``takes``.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        # for an endpoint that FastAPI calls: what it may open is closed after the reply
        self.app = _replying(self._handler) if self._is_direct else AsyncExitStackMiddleware(self.app)

    def get_route_handler(self) -> Handler:
        status = self.status_code or HTTPStatus.OK
        self._is_direct = is_simple(self.dependant, status)
        call: Callable[[BoundedRequest], Awaitable[Response]]
        call = Direct(self.dependant, status) if self._is_direct else super().get_route_handler()
        check_role = authentication.ROLES.get(authentication.declared_role(self.dependant))
        is_json = self.body_field is not None
        required = is_json and self.body_field.field_info.is_required()  # type: ignore[union-attr]
        known = dict(query_parameters(self.dependant))
        declared = declared_limit(self.endpoint)
        limit = declared if declared is not None else DEFAULT_BODY_BYTES if is_json else 0

        async def handler(request: Request) -> Response:
            bounded = BoundedRequest(request.scope, request.receive, limit)
            with ExitStack() as stack:
                if check_role is not None:
                    caller = await _find_caller(bounded)
                    if isinstance(caller, Agent):
                        stack.enter_context(_admission(request).of_agent(caller.id))
                    check_role(caller)
                else:
                    _admission(request).check_stranger(request)
                check_parameters(request, known)
                bounded.check_size()
                if is_json:
                    await bounded.parse(required=required)
                elif limit == 0 and has_body(request.headers):
                    await bounded.body()  # chunks whose sum may be nothing
                return await call(bounded)

        self._handler = handler
        return handler


def _replying(handler: Handler) -> ASGIApp:
    """The application of a handler."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reply = await handler(Request(scope, receive, send))
        await reply(scope, receive, send)

    return app


async def _find_caller(request: Request) -> Caller:
    """The request's caller, kept for the endpoint. Raises TooManyRequests, Unauthenticated and AgentRevoked."""
    services: Services = request.app.state.services
    admission = _admission(request)
    try:
        caller = await authentication.identify(services, admission, request.headers.get("Authorization", ""))
    except authentication.REFUSALS:
        admission.check_stranger(request)
        raise
    request.state.caller = caller
    connection = request.scope["state"].get("connection")
    if connection is not None:
        connection.note_key()
    return caller


def _admission(request: Request) -> Admission:
    admission: Admission = request.app.state.admission
    return admission
