"""Calls endpoints without FastAPI's resolver, which costs several times the work of a small request.

That works for endpoints of a simple kind, such as those that agents call in each round: coroutines that take texts of
the path, headers, single values of the query, a JSON body, the request, and what coroutines of the same kind give, and
that return a response, a model or nothing. FastAPI calls any other endpoint.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from coordinator.web.limits.bodies import BoundedRequest
from coordinator.web.parameters import query_parameters


@dataclass
class _Call:
    """What one request gives.

    status: of the reply, as declared. response: made for an endpoint that sets its headers or status. found: what
    functions have given.
    """

    request: Request
    body: Any
    status: int
    response: Response | None = None
    found: dict[Callable[..., Any], Any] = field(default_factory=dict)


class Direct:
    """Calls one endpoint.

    Args:
        dependant: the endpoint with its parameters, of a simple kind: see ``is_simple``.
        status: of the reply, unless the endpoint returns a response.
    """

    def __init__(self, dependant: Dependant, status: int) -> None:
        self._function = _Function(dependant)
        self._status = status

    async def __call__(self, request: BoundedRequest) -> Response:
        """Reply to a request, whose body was parsed. Raises RequestValidationError, and what the endpoint raises."""
        of = _Call(request, request.parsed, self._status)
        result = await self._function.call(of)
        if isinstance(result, Response):
            return result
        content = None if result is None else result.model_dump_json()
        media_type = None if result is None else "application/json"
        status = self._status if of.response is None else of.response.status_code
        reply = Response(content, status, media_type=media_type)
        if of.response is not None:
            reply.raw_headers.extend(pair for pair in of.response.raw_headers if pair[0] != b"content-length")
        return reply


def is_simple(dependant: Dependant, status: int) -> bool:
    """Whether ``Direct`` can call an endpoint."""
    assert dependant.call is not None
    returned = inspect.signature(dependant.call, eval_str=True).return_annotation
    is_model = inspect.isclass(returned) and issubclass(returned, Response | BaseModel)
    return (is_model or (returned is None and status == HTTPStatus.NO_CONTENT)) and _is_simple(dependant)


def _is_simple(dependant: Dependant) -> bool:
    others = (
        dependant.cookie_params,
        dependant.websocket_param_name,
        dependant.http_connection_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
    )
    texts = (*dependant.path_params, *dependant.header_params)
    return (
        not any(others)
        and inspect.iscoroutinefunction(dependant.call)
        and all(text.field_info.annotation is str and not text.field_info.metadata for text in texts)
        and not any(is_repeated for _, is_repeated in query_parameters(dependant))
        and len(dependant.body_params) <= 1
        and all(_is_simple(each) for each in dependant.dependencies)
    )


class _Function:
    """A function with the places of its parameters."""

    def __init__(self, dependant: Dependant) -> None:
        assert dependant.call is not None
        self._call: Callable[..., Any] = dependant.call
        self._functions = [(each.name or "", _Function(each)) for each in dependant.dependencies]
        self._paths = [(each.name, each.alias) for each in dependant.path_params]
        self._headers = [(each.name, each.alias, each.field_info.default) for each in dependant.header_params]
        self._queries = list(dependant.query_params)
        self._body = next(iter(dependant.body_params), None)
        self._request, self._response = dependant.request_param_name, dependant.response_param_name

    async def call(self, of: _Call) -> Any:
        """What the function gives for a request."""
        if self._call in of.found:
            return of.found[self._call]
        values: dict[str, Any] = {name: await function.call(of) for name, function in self._functions}
        for name, alias in self._paths:
            values[name] = of.request.path_params[alias]
        for name, alias, default in self._headers:
            values[name] = _header(of.request, alias, default)
        if self._queries:
            values |= _of_query(of.request, self._queries)
        if self._body is not None:
            values[self._body.name] = _checked(self._body, of.body)
        if self._request is not None:
            values[self._request] = of.request
        if self._response is not None:
            of.response = values[self._response] = of.response or Response(status_code=of.status)
        result = of.found[self._call] = await self._call(**values)
        return result


def _header(request: Request, name: str, default: Any) -> str:
    value = request.headers.get(name, default)
    if value is PydanticUndefined:
        raise RequestValidationError([_missing("header", name)])
    return str(value)


def _of_query(request: Request, fields: Sequence[Any]) -> dict[str, Any]:
    """The values of the query, by parameter. Raises RequestValidationError with all that is wrong."""
    values: dict[str, Any] = {}
    wrong: list[Any] = []
    for each in fields:
        given = request.query_params.get(each.alias)
        if given is None and each.field_info.is_required():
            wrong.append(_missing("query", each.alias))
        elif given is None:
            values[each.name] = each.get_default()
        else:
            values[each.name], errors = each.validate(given, loc=("query", each.alias))
            wrong += errors
    if wrong:
        raise RequestValidationError(wrong)
    return values


def _checked(of: Any, body: Any) -> Any:
    value, errors = of.validate(body, loc=("body",))
    if errors:
        raise RequestValidationError(errors)
    return value


def _missing(where: str, name: str) -> dict[str, Any]:
    return {"type": "missing", "loc": (where, name), "msg": "Field required", "input": None}
