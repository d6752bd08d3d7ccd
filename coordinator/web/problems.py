"""The one table from domain errors to problem+json replies."""

import logging
from collections.abc import Mapping

from asyncpg.exceptions import DataError  # type: ignore[import-untyped]
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from coordinator import errors
from coordinator.database.disk_full import translate_disk_full
from shared.plugins import PluginUnavailable
from shared.wire.problems import MEDIA_TYPE, FieldProblem, Problem, ProblemType

log = logging.getLogger(__name__)

P = ProblemType

TABLE: Mapping[type[errors.CoordinatorError], tuple[int, ProblemType, str]] = {
    errors.Unauthenticated: (401, P.UNAUTHENTICATED, "Not authenticated"),
    errors.AgentRevoked: (403, P.AGENT_REVOKED, "The agent was revoked"),
    errors.Forbidden: (403, P.FORBIDDEN, "Not allowed"),
    errors.NotFound: (404, P.NOT_FOUND, "Not found"),
    errors.TokenRefused: (401, P.TOKEN_REFUSED, "The enrolment token was refused"),
    errors.NameTaken: (409, P.NAME_TAKEN, "The name is taken"),
    errors.AgentAlreadyRunning: (409, P.AGENT_ALREADY_RUNNING, "The agent is running elsewhere"),
    errors.ProtocolNotServed: (426, P.PROTOCOL_NOT_SERVED, "The protocol is not served"),
    errors.Invalid: (422, P.INVALID, "The request is not valid"),
    errors.IllegalMove: (409, P.ILLEGAL_MOVE, "The state does not allow it"),
    errors.NotKept: (409, P.NOT_KEPT, "The round is no longer stored"),
    errors.Conflict: (409, P.CONFLICT, "The idempotency key was used with another body"),
    errors.LeaseLost: (410, P.LEASE_LOST, "The lease is lost"),
    errors.ResultDiffers: (409, P.RESULT_DIFFERS, "Another result was accepted"),
    errors.BadUpdate: (422, P.BAD_UPDATE, "The update breaks the contract"),
    errors.BadChunk: (422, P.BAD_CHUNK, "The chunk is corrupt"),
    errors.WrongOffset: (409, P.WRONG_OFFSET, "The chunk has another offset"),
    errors.TooLarge: (413, P.TOO_LARGE, "Too large"),
    errors.RangeNotSatisfiable: (416, P.RANGE_NOT_SATISFIABLE, "The range is not satisfiable"),
    errors.CorruptBlob: (500, P.CORRUPT_BLOB, "Stored bytes are corrupt"),
    errors.StorageFull: (507, P.STORAGE_FULL, "The storage is full"),
}

RETRYABLE = frozenset({P.AGENT_ALREADY_RUNNING, P.BAD_CHUNK, P.INTERNAL, P.STORAGE_FULL, P.UNAVAILABLE})

_BY_STATUS = {
    400: P.BAD_REQUEST,
    401: P.UNAUTHENTICATED,
    403: P.FORBIDDEN,
    404: P.NOT_FOUND,
    405: P.BAD_REQUEST,
    413: P.TOO_LARGE,
    503: P.UNAVAILABLE,
}


def problem_reply(
    request: Request,
    status: int,
    kind: ProblemType,
    title: str,
    detail: str,
    fields: tuple[tuple[str, str], ...] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem+json reply."""
    problem = Problem(
        type=kind.uri,
        title=title,
        status=status,
        detail=detail,
        retryable=kind in RETRYABLE,
        request_id=request.scope.get("state", {}).get("request_id"),
        errors=[FieldProblem(field=field, message=message) for field, message in fields],
    )
    return JSONResponse(problem.model_dump(), status, dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of *app* with a problem."""
    app.exception_handler(errors.CoordinatorError)(_domain_error)
    app.exception_handler(RequestValidationError)(_invalid_request)
    app.exception_handler(HTTPException)(_http_error)
    for no_database in (InterfaceError, NoConnection, OperationalError):
        app.exception_handler(no_database)(_database_unavailable)
    for bad_value in (OverflowError, DBAPIError):  # SQLite raises OverflowError
        app.exception_handler(bad_value)(_bad_value)
    app.exception_handler(PluginUnavailable)(_plugin_missing)
    app.exception_handler(ClientDisconnect)(_disconnected)
    app.exception_handler(OSError)(_os_error)
    app.exception_handler(Exception)(_unexpected)


async def _domain_error(request: Request, error: errors.CoordinatorError) -> JSONResponse:
    status, kind, title = TABLE[type(error)]
    headers = {}
    if isinstance(error, errors.AgentAlreadyRunning):
        headers["Retry-After"] = "5"
    if isinstance(error, errors.WrongOffset):
        headers["Upload-Offset"] = str(error.expected)
    if isinstance(error, errors.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.n_bytes}"
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    fields = error.errors if isinstance(error, errors.Invalid) else ()
    return problem_reply(request, status, kind, title, str(error), fields, headers)


async def _invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
    # the input itself is omitted: it may hold a secret
    fields = tuple(
        (".".join(str(part) for part in detail["loc"][1:]), detail["msg"].removeprefix("Value error, "))
        for detail in error.errors()
    )
    detail = "; ".join(f"{field}: {message}" for field, message in fields)
    return problem_reply(request, 422, P.INVALID, "The request is not valid", detail, fields)


async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    kind = _BY_STATUS.get(error.status_code, P.INTERNAL if error.status_code >= 500 else P.BAD_REQUEST)
    return problem_reply(request, error.status_code, kind, error.detail, error.detail, headers=error.headers)


async def _database_unavailable(request: Request, error: Exception) -> JSONResponse:
    log.error("the database failed: %s", getattr(error, "orig", error))
    title, detail = "The database is not available", "the database is not available; try again later"
    return problem_reply(request, 503, P.UNAVAILABLE, title, detail, headers={"Retry-After": "5"})


async def _plugin_missing(request: Request, error: PluginUnavailable) -> JSONResponse:
    """A campaign's plug-in was there when it was created, and is not now."""
    log.error("%s", error)
    detail = f"{error}; {errors.PLUGIN_REMEDY}"
    return problem_reply(request, 503, P.UNAVAILABLE, "A plug-in is missing", detail, headers={"Retry-After": "5"})


async def _bad_value(request: Request, error: OverflowError | DBAPIError) -> JSONResponse:
    if isinstance(error, DBAPIError) and not isinstance(error.driver_exception, DataError):
        return await _unexpected(request, error)
    log.warning("the database cannot store a value of the request: %s", getattr(error, "driver_exception", error))
    detail = "a number is too large for the database, or a text contains a NUL character"
    return problem_reply(request, 422, P.INVALID, "The request is not valid", detail)


async def _disconnected(request: Request, _error: ClientDisconnect) -> JSONResponse:
    # the client does not receive this; without it, each cut connection would log a traceback
    return problem_reply(request, 400, P.BAD_REQUEST, "The connection was cut", "the request arrived incomplete")


async def _os_error(request: Request, error: OSError) -> JSONResponse:
    try:
        with translate_disk_full():
            raise error
    except errors.StorageFull as full:
        return await _domain_error(request, full)
    except OSError:
        return await _unexpected(request, error)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", exc_info=error)
    return problem_reply(request, 500, P.INTERNAL, "Internal error", "internal error; see the coordinator's log")
