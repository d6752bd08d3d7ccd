"""The one table from domain errors to problem+json replies."""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from coordinator import errors
from coordinator.database.disk_full import translate_disk_full
from coordinator.web.limits.admission import Admission
from shared.plugins import PluginUnavailable
from shared.wire.problems import MEDIA_TYPE, FieldProblem, Problem, ProblemType

log = logging.getLogger(__name__)

P = ProblemType

TABLE: Mapping[type[errors.CoordinatorError], tuple[int, ProblemType, str]] = {
    errors.Unauthenticated: (401, P.UNAUTHENTICATED, "Not authenticated"),
    errors.AgentRevoked: (403, P.AGENT_REVOKED, "The agent was revoked"),
    errors.Forbidden: (403, P.FORBIDDEN, "Not allowed"),
    errors.NotFound: (404, P.NOT_FOUND, "Not found"),
    errors.NoAdapter: (404, P.NOT_FOUND, "Not found"),
    errors.TokenRefused: (401, P.TOKEN_REFUSED, "The enrolment token was refused"),
    errors.NameTaken: (409, P.NAME_TAKEN, "The name is taken"),
    errors.AgentAlreadyRunning: (409, P.AGENT_ALREADY_RUNNING, "The agent is running elsewhere"),
    errors.ProtocolNotServed: (426, P.PROTOCOL_NOT_SERVED, "The protocol is not served"),
    errors.Invalid: (422, P.INVALID, "The request is not valid"),
    errors.IllegalMove: (409, P.ILLEGAL_MOVE, "The state does not allow it"),
    errors.RoundOver: (409, P.ILLEGAL_MOVE, "The round is over"),
    errors.NothingToFinish: (409, P.ILLEGAL_MOVE, "The state does not allow it"),
    errors.NotKept: (409, P.NOT_KEPT, "The round is no longer stored"),
    errors.Conflict: (409, P.CONFLICT, "The idempotency key was used with another body"),
    errors.LeaseLost: (410, P.LEASE_LOST, "The lease is lost"),
    errors.ResultDiffers: (409, P.RESULT_DIFFERS, "Another result was accepted"),
    errors.BadUpdate: (422, P.BAD_UPDATE, "The update breaks the contract"),
    errors.BadChunk: (422, P.BAD_CHUNK, "The chunk is corrupt"),
    errors.WrongOffset: (409, P.WRONG_OFFSET, "The chunk has another offset"),
    errors.UploadBusy: (409, P.WRONG_OFFSET, "Another request sends a chunk"),
    errors.EncodedBody: (415, P.BAD_REQUEST, "The body is encoded"),
    errors.TooLarge: (413, P.TOO_LARGE, "Too large"),
    errors.QueryTooLong: (414, P.BAD_REQUEST, "The query is too long"),
    errors.WrongMediaType: (415, P.BAD_REQUEST, "The body is not declared as JSON"),
    errors.TooManyRequests: (429, P.TOO_MANY_REQUESTS, "Too many requests"),
    errors.RangeNotSatisfiable: (416, P.RANGE_NOT_SATISFIABLE, "The range is not satisfiable"),
    errors.CorruptBlob: (500, P.CORRUPT_BLOB, "Stored bytes are corrupt"),
    errors.UploadsFull: (507, P.STORAGE_FULL, "The agent's uploads are full"),
    errors.StorageFull: (507, P.STORAGE_FULL, "The storage is full"),
    errors.SecretRefused: (409, P.CONFLICT, "The secret was refused"),
    errors.Unstorable: (422, P.INVALID, "The request is not valid"),
    errors.SigningKeyUnusable: (503, P.UNAVAILABLE, "The signing key is not available"),
    errors.DatabaseAway: (503, P.UNAVAILABLE, "The database is not available"),
}

RETRYABLE = frozenset(
    {P.AGENT_ALREADY_RUNNING, P.BAD_CHUNK, P.INTERNAL, P.STORAGE_FULL, P.TOO_MANY_REQUESTS, P.UNAVAILABLE}
)

_MAX_ERRORS, _MAX_FIELD, _MAX_MESSAGE, _MAX_DETAIL = 10, 120, 300, 4500
"""Most invalid fields that a reply names, and most characters of a field's name, of its message, and of all words
together: a reply must not be many times as large as the request."""

_BY_STATUS = {
    400: P.BAD_REQUEST,
    401: P.UNAUTHENTICATED,
    403: P.FORBIDDEN,
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
    """A problem+json reply of bounded size, whatever was wrong. fields: if there are any, they make the detail."""
    shown = tuple((shorten(name, _MAX_FIELD), shorten(message, _MAX_MESSAGE)) for name, message in fields[:_MAX_ERRORS])
    if shown:
        detail = "; ".join(f"{name}: {message}" if name else message for name, message in shown)
    if len(fields) > len(shown):
        detail += f"; and {len(fields) - len(shown):,} more"
    problem = Problem(
        type=kind.uri,
        title=title,
        status=status,
        detail=shorten(detail, _MAX_DETAIL),
        retryable=kind in RETRYABLE,
        request_id=request.scope.get("state", {}).get("request_id"),
        errors=[FieldProblem(field=field, message=message) for field, message in shown],
    )
    return JSONResponse(problem.model_dump(), status, dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every error of *app* with a problem."""
    app.exception_handler(errors.CoordinatorError)(_domain_error)
    app.exception_handler(RequestValidationError)(_invalid_request)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(errors.DatabaseAway)(_database_away)
    app.exception_handler(PluginUnavailable)(_plugin_missing)
    app.exception_handler(ClientDisconnect)(_disconnected)
    app.exception_handler(OSError)(_os_error)
    app.exception_handler(Exception)(_unexpected)


async def _domain_error(request: Request, error: errors.CoordinatorError) -> JSONResponse:
    return domain_error_reply(request, error)


def domain_error_reply(request: Request, error: errors.CoordinatorError) -> JSONResponse:
    """The reply to an error in the table."""
    status, kind, title = TABLE[type(error)]
    headers = {}
    if isinstance(error, errors.AgentAlreadyRunning):
        headers["Retry-After"] = "5"
    if isinstance(error, errors.TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.WrongOffset | errors.UploadBusy):
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
        (".".join(str(part) for part in each["loc"][1:]), each["msg"].removeprefix("Value error, "))
        for each in error.errors()
    )
    return problem_reply(request, 422, P.INVALID, "The request is not valid", "", fields)


def shorten(text: str, length: int) -> str:
    """A text of at most *length* characters: a longer one ends in an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    """What the router refuses, before any key is looked up: unknown paths and methods."""
    admission: Admission = request.app.state.admission
    try:
        admission.check_stranger(request)
    except errors.TooManyRequests as too_many:
        return domain_error_reply(request, too_many)
    if error.status_code == 404:  # no request has this path: another problem than a campaign that is not there
        detail = "the API has nothing at this path; /docs lists all requests"
        return problem_reply(request, 404, P.BAD_REQUEST, "No such path", detail, headers=error.headers)
    kind = _BY_STATUS.get(error.status_code, P.INTERNAL if error.status_code >= 500 else P.BAD_REQUEST)
    return problem_reply(request, error.status_code, kind, error.detail, error.detail, headers=error.headers)


async def _database_away(request: Request, _error: errors.DatabaseAway) -> JSONResponse:
    # why is for the operator, in the log, once: it names the database's place
    status, kind, title = TABLE[errors.DatabaseAway]
    detail = "the coordinator's database is not available; try again later"
    return problem_reply(request, status, kind, title, detail, headers={"Retry-After": "5"})


async def _plugin_missing(request: Request, error: PluginUnavailable) -> JSONResponse:
    """A campaign's plug-in was there when it was created, and is not now."""
    log.error("%s", error)
    detail = f"{error}; {errors.PLUGIN_REMEDY}"
    return problem_reply(request, 503, P.UNAVAILABLE, "A plug-in is missing", detail, headers={"Retry-After": "5"})


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
