"""What an agent accepts as a reply: how much, in which encoding, and of which form. Nothing else is believed.

A reply is read piece by piece and never unpacked: a few kilobytes could become gigabytes in memory. Every reply that is
not the coordinator's own, or that cannot be read, becomes CoordinatorUnreachable, which is tried again.
"""

from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.errors import AskedTooOften, CoordinatorUnreachable, refusal
from shared.network.http_headers import foreign_encoding, seconds_to_wait
from shared.text.unsafe import one_line
from shared.wire.base import PROTOCOL_HEADER
from shared.wire.problems import MEDIA_TYPE, Problem

REPLY_BYTES = 1 << 20
"""The longest reply."""
LEASE_BYTES = 4 << 20
"""The longest reply with an assignment, which carries sections of a campaign file."""
STATEMENTS_BYTES = 8 << 20
"""The longest reply with statements, which carry the names of all clients of a round."""
_RETRYABLE_STATUSES = frozenset({408, 425, 500, 502, 503, 504, 507})
_MAX_FIELD = 100

M = TypeVar("M", bound=BaseModel)


async def receive(reply: httpx.Response, max_bytes: int) -> bytes:
    """Return the whole body of an open reply. Raises CoordinatorUnreachable, also for one that is longer or encoded."""
    check_origin(reply)
    body = bytearray()
    async for piece in reply.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            message = f"the coordinator sent a reply of more than {max_bytes:,} bytes, which is not read"
            raise CoordinatorUnreachable(message)
    return bytes(body)


def check_origin(reply: httpx.Response) -> None:
    """Raise CoordinatorUnreachable if a reply is not the coordinator's own, such as a proxy's page, or is encoded."""
    if PROTOCOL_HEADER not in reply.headers:
        message = f"status {reply.status_code} from {origin(reply.request.url)}, which is not a Fedloom coordinator"
        raise CoordinatorUnreachable(f"{message}: check its URL, and any proxy on the way to it")
    if (encoding := foreign_encoding(reply.headers.get("Content-Encoding", ""))) is not None:
        message = f"the coordinator sent a reply in the encoding {encoding}, which nobody asked for"
        raise CoordinatorUnreachable(f"{message}: turn compression off at the coordinator and at any proxy on the way")


def check_status(reply: httpx.Response, body: bytes) -> None:
    """Raise the error of a reply with this body: CoordinatorRefused or CoordinatorUnreachable."""
    if reply.is_success:
        return
    pause_s = seconds_to_wait(reply.headers.get("Retry-After", ""))
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError as error:
        message = f"the coordinator answered with status {reply.status_code} and no explanation"
        raise CoordinatorUnreachable(message, pause_s) from error
    if reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise AskedTooOften(problem.detail or problem.title, pause_s)
    if reply.status_code in _RETRYABLE_STATUSES or not reply.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
        raise CoordinatorUnreachable(problem.detail or problem.title, pause_s)
    raise refusal(problem)


def parse(body: bytes, model: type[M]) -> M:
    """Parse a reply, ignoring fields that only a newer coordinator knows, at every level.

    An assignment carries sections of a campaign file, which forbid unknown fields when a person writes them.
    """
    try:
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        message = f"the coordinator sent a reply that cannot be read ({what_is_wrong(error)})"
        raise CoordinatorUnreachable(message) from error


def what_is_wrong(error: ValidationError) -> str:
    """The first field of a reply that is wrong, in words that quote no value, and the number of the others."""
    first: ErrorDetails = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = one_line(".".join(map(str, first["loc"])), _MAX_FIELD)
    reason = one_line(first["msg"].replace("Input should be", "must be"), 2 * _MAX_FIELD)
    more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{field}: {reason}{more}" if field else f"{reason}{more}"


def origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"
