"""Errors as ``application/problem+json`` (RFC 9457). Code branches on ``type``, never on text."""

from enum import StrEnum

from shared.wire.base import Reply

MEDIA_TYPE = "application/problem+json"
_PREFIX = "urn:fedloom:problem:"


class ProblemType(StrEnum):
    """Types of the problems that the coordinator reports."""

    AGENT_ALREADY_RUNNING = "agent-already-running"
    AGENT_REVOKED = "agent-revoked"
    PROTOCOL_NOT_SERVED = "protocol-not-served"
    BAD_CHUNK = "bad-chunk"
    BAD_REQUEST = "bad-request"
    BAD_UPDATE = "bad-update"
    CONFLICT = "conflict"
    CORRUPT_BLOB = "corrupt-blob"
    FORBIDDEN = "forbidden"
    ILLEGAL_MOVE = "illegal-move"
    INTERNAL = "internal"
    INVALID = "invalid"
    LEASE_LOST = "lease-lost"
    NAME_TAKEN = "name-taken"
    NOT_FOUND = "not-found"
    NOT_KEPT = "not-kept"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable"
    RESULT_DIFFERS = "result-differs"
    STORAGE_FULL = "storage-full"
    TOKEN_REFUSED = "token-refused"  # noqa: S105
    TOO_LARGE = "too-large"
    TOO_MANY_REQUESTS = "too-many-requests"
    UNAUTHENTICATED = "unauthenticated"
    UNAVAILABLE = "unavailable"
    WRONG_OFFSET = "wrong-offset"

    @property
    def uri(self) -> str:
        return _PREFIX + self.value


class FieldProblem(Reply):
    """One invalid field of a request."""

    field: str
    message: str


class Problem(Reply):
    """An error reply."""

    type: str
    title: str
    status: int
    detail: str = ""
    retryable: bool = False
    """Whether the same request may succeed later."""
    request_id: str | None = None
    errors: list[FieldProblem] = []
    """The invalid fields of the request."""

    @property
    def kind(self) -> str:
        """The problem's type without its prefix."""
        return self.type.removeprefix(_PREFIX)
