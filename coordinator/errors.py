"""Errors of the coordinator. They carry facts and are independent of HTTP; ``web.problems`` maps them to replies.

CoordinatorError
├── Unauthenticated      the key is missing, malformed or unknown
├── AgentRevoked         the agent's secret was revoked
├── Forbidden            the key is of the wrong kind, or gives no access to the resource
├── NotFound             the resource does not exist
│   └── NoAdapter        the campaign has no such adapter; says why
├── TokenRefused         the enrolment token is unknown, used or expired
├── NameTaken            an active agent has that name
├── AgentAlreadyRunning  another process of the same agent holds a lease
├── ProtocolNotServed    the caller's version of fedloom uses another protocol
├── Invalid              the request is well-formed but not acceptable; names the fields
├── IllegalMove          the state does not allow it
│   └── RoundOver        a held update is released that its round no longer awaits
├── NothingToFinish      the campaign has no trained adapter that it could finish with
├── NotKept              a round cannot be rolled back to: a blob of it is no longer stored
├── Conflict             the idempotency key was used with another body
├── LeaseLost            the lease is unknown, expired, ended, or superseded by a later attempt
├── ResultDiffers        the task has ended with another result
├── BadUpdate            the uploaded file breaks the contract; names the tensor
├── BadChunk             the chunk's bytes do not match its digest
├── WrongOffset          the chunk does not start at the upload's end
├── UploadBusy           another request sends a chunk of the upload
├── TooLarge             more bytes than allowed
├── EncodedBody          the body is compressed
├── WrongMediaType       the body is not declared as JSON
├── TooManyRequests      the caller, or an address without a key, asks too often
├── UploadsFull          the agent's unfinished uploads would have too many bytes together
├── RangeNotSatisfiable  the range lies outside the blob
├── CorruptBlob          stored bytes do not match their digest
├── AlgorithmFailed      the campaign's algorithm cannot aggregate the round
├── AssignmentFailed     the assignment of a task cannot be built from its campaign's data
├── StorageFull          the disk or the database is full
├── SecretRefused        another agent has or had the secret
├── Unstorable           no database stores the value
├── DatabaseAway         the database cannot be reached or used now
├── SigningKeyUnusable   the signing key is missing, or another one than the database's
├── SigningKeyNotLost    the signing key is declared lost, and is here
└── BadDatabaseUrl       the setting does not name a database that Fedloom takes
"""

from datetime import datetime
from pathlib import Path

from shared.text.ranges import in_ranges
from shared.wire.base import LEASE_HEADER, PROTOCOL

PLUGIN_REMEDY = "install, repair or upgrade the distribution that provides it at the coordinator, and restart it"
"""What an operator does about a plug-in that a campaign needs and that cannot be used."""


class CoordinatorError(Exception):
    """Base class of the coordinator's errors."""


class Unauthenticated(CoordinatorError):
    """The key is missing, malformed or unknown."""


class AgentRevoked(CoordinatorError):
    """The agent was revoked."""

    def __init__(self, agent_name: str) -> None:
        self.agent_name = agent_name
        anew = "enrol anew with a new token (fedloom agent enroll --again)"
        super().__init__(f"agent {agent_name} was revoked by the operator; {anew}")


class Forbidden(CoordinatorError):
    """The caller may not do this."""


class NotFound(CoordinatorError):
    """The resource does not exist."""

    def __init__(self, what: str, key: object) -> None:
        self.what = what
        self.key = key
        super().__init__(f"there is no {what} {key}")


class NoAdapter(NotFound):
    """The campaign has no such adapter. which: a number, ``best``, ``final`` or ``latest``; reason: why, in words."""

    def __init__(self, campaign_name: str, which: str, reason: str) -> None:
        self.what, self.key = "adapter", which
        adapter = f"{which} adapter" if not which.isdecimal() else f"adapter {which}"
        CoordinatorError.__init__(self, f"campaign {campaign_name} has no {adapter}: {reason}")


class TokenRefused(CoordinatorError):
    """The enrolment token is unknown, used or expired."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; ask the operator for a new one (`fedloom token create`)")


class NameTaken(CoordinatorError):
    """An active agent has that name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the name {name} is taken by an active agent; choose another --name, or ask the operator to revoke it"
        )


class AgentAlreadyRunning(CoordinatorError):
    """Another process of the same agent holds a lease."""

    def __init__(self, agent_name: str, expires_at: datetime) -> None:
        self.agent_name = agent_name
        self.expires_at = expires_at
        super().__init__(
            f"another process of agent {agent_name} holds a lease until {expires_at:%H:%M:%S} UTC; "
            "stop that process, or wait until its lease expires"
        )


class ProtocolNotServed(CoordinatorError):
    """The caller's version of fedloom uses another protocol."""

    def __init__(self, spoken: str) -> None:
        self.spoken = spoken
        super().__init__(
            f"your version of fedloom uses protocol {spoken}, this coordinator uses {PROTOCOL}; install the same "
            "version of fedloom on both sides"
        )


class Invalid(CoordinatorError):
    """The request is well-formed but not acceptable. errors: pairs of field and message."""

    def __init__(self, *errors: tuple[str, str]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors))


class IllegalMove(CoordinatorError):
    """The state does not allow it. to: the state or the action refused, as a participle where there is one."""

    def __init__(self, what: str, state: str, to: str) -> None:
        self.what = what
        self.state = state
        self.to = to
        super().__init__(f"a {what} that is {state} cannot be {to}")


class RoundOver(IllegalMove):
    """A held update is released that its round no longer awaits: it was closed, rolled back or cancelled without it."""

    def __init__(self, number: int | None) -> None:
        message = f"round {number} is over and did not wait for this update, which counts nowhere"
        CoordinatorError.__init__(self, message)


class NothingToFinish(CoordinatorError):
    """The campaign has no trained adapter that it could finish with. why: what it has instead."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} has no trained adapter to finish with: {why}; cancel it instead")


class NotKept(CoordinatorError):
    """A campaign cannot be rolled back to a round, because a blob of that round is no longer stored.

    Args:
        number: the round.
        missing: the kind of blob that is missing, in words.
        setting: the retention setting that governs this kind.
        possible: the rounds that the campaign can be rolled back to, ascending.
    """

    def __init__(self, number: int, missing: str, setting: str, possible: list[int]) -> None:
        self.number = number
        self.missing = missing
        self.setting = setting
        self.possible = possible
        super().__init__(
            f"the {missing} of round {number} is no longer stored ({setting}); "
            f"rounds that the campaign can be rolled back to: {in_ranges(possible) or 'none'}"
        )


class Conflict(CoordinatorError):
    """The idempotency key was used with another body."""


class LeaseLost(CoordinatorError):
    """The lease is unknown, expired, ended, or superseded by a later attempt. attempt: None if the header has none."""

    def __init__(self, task_id: str, attempt: int | None) -> None:
        self.task_id = task_id
        self.attempt = attempt
        super().__init__(
            f"attempt {attempt} no longer holds the lease of task {task_id}"
            if attempt is not None
            else f"the {LEASE_HEADER} header is missing or malformed; its form is ATTEMPT.TOKEN"
        )


class ResultDiffers(CoordinatorError):
    """The task has ended with another result."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"task {task_id} has already ended with another result; the first one is kept")


class BadUpdate(CoordinatorError):
    """The uploaded file breaks the contract. tensor: the tensor concerned, if it is one."""

    def __init__(self, reason: str, tensor: str | None = None) -> None:
        self.reason = reason
        self.tensor = tensor
        super().__init__(f"{tensor}: {reason}" if tensor else reason)


class BadChunk(CoordinatorError):
    """The chunk's bytes do not match its digest."""

    def __init__(self) -> None:
        super().__init__("the chunk does not match its Content-Digest (sha-256); send it again")


class WrongOffset(CoordinatorError):
    """The chunk does not start at the upload's end."""

    def __init__(self, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"the upload has {expected} bytes, but the chunk starts at {found}; continue at the upload's end"
        )


class UploadBusy(CoordinatorError):
    """Another request sends a chunk of the upload. expected: bytes that the upload has before that chunk."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        super().__init__("another request sends a chunk of this upload; ask how far the upload is, and continue there")


class EncodedBody(CoordinatorError):
    """The body is compressed, or encoded in another way."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"the body has the Content-Encoding {encoding[:20]!r}; send it without any")


class TooLarge(CoordinatorError):
    """More bytes than allowed. n_bytes: the size announced; None if it is only known to be above the limit."""

    def __init__(self, n_bytes: int | None, limit: int) -> None:
        self.n_bytes = n_bytes
        self.limit = limit
        if limit == 0:
            super().__init__("this request takes no body; send it without one")
        else:
            size = "the body is too large" if n_bytes is None else f"{n_bytes} bytes are too many"
            super().__init__(f"{size}; at most {limit} are allowed here")


class QueryTooLong(CoordinatorError):
    """The query of the request's URL has more bytes than allowed."""

    def __init__(self, n_bytes: int, limit: int) -> None:
        super().__init__(f"the query of the URL has {n_bytes:,} bytes; at most {limit:,} are allowed")


class WrongMediaType(CoordinatorError):
    """The body is not declared as JSON."""

    def __init__(self) -> None:
        super().__init__("the body is not declared as JSON; with curl, add -H 'Content-Type: application/json'")


class TooManyRequests(CoordinatorError):
    """Somebody asks too often. retry_after_s: whole seconds until the next request is answered."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{reason}; try again in {retry_after_s} s")


class UploadsFull(CoordinatorError):
    """The agent's unfinished uploads would have too many bytes together."""

    def __init__(self, n_bytes: int, limit: int) -> None:
        self.n_bytes = n_bytes
        self.limit = limit
        super().__init__(
            f"this agent's unfinished uploads would have {n_bytes} bytes together; at most {limit} are allowed "
            "(the coordinator's storage.max_upload_bytes_per_agent); they end with their tasks"
        )


class RangeNotSatisfiable(CoordinatorError):
    """The range lies outside the blob. n_bytes: the blob's size."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        super().__init__(f"the range lies outside the blob, which has {n_bytes} bytes")


class CorruptBlob(CoordinatorError):
    """Stored bytes do not match the digest that names them."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"the bytes of blob {expected} have the digest {found}")


class StorageFull(CoordinatorError):
    """The disk or the database is full."""

    def __init__(self) -> None:
        super().__init__("the coordinator's storage is full; nothing was lost: free some space, then try again")


class AlgorithmFailed(CoordinatorError):
    """The campaign's algorithm cannot aggregate the round."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the algorithm {name} failed: {reason}")


class SecretRefused(CoordinatorError):
    """The secret cannot be this agent's. The text does not say why: it would confirm another agent's secret."""

    def __init__(self) -> None:
        super().__init__("the secret was refused; make a new one and send its hash")


class AssignmentFailed(CoordinatorError):
    """The assignment of a task cannot be built from its campaign's data. reason: in words that quote no value."""

    def __init__(self, campaign_id: str, reason: str) -> None:
        self.campaign_id = campaign_id
        self.reason = reason
        super().__init__(reason)


class Unstorable(CoordinatorError):
    """No database stores the value. The text does not quote it: it may be a secret."""


class DatabaseAway(CoordinatorError):
    """The database cannot be reached or used now.

    Args:
        reason: for the operator, in words; it names the place.
        only_writes: whether it can still be read.
    """

    def __init__(self, reason: str, *, only_writes: bool = False) -> None:
        self.only_writes = only_writes
        super().__init__(reason)


class SigningKeyUnusable(CoordinatorError):
    """The signing key is missing, unreadable, or another one than the database's. The text quotes nothing of it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the signing key {path} cannot be used: {reason}. Agents trust the key that this coordinator signed by "
            "before: put that file here, or name it in FEDLOOM_SIGNING__KEY_FILE. Only if it is lost, `fedloom "
            "coordinator rotate-signing-key --lost` makes a new one, and every agent has to enrol again"
        )


class SigningKeyNotLost(CoordinatorError):
    """The signing key is declared lost, and is here."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the signing key {path} is not lost: rotate it without --lost, and agents follow")


class BadDatabaseUrl(CoordinatorError):
    """The setting does not name a database that Fedloom takes. The text quotes nothing of a password."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database URL (FEDLOOM_DATABASE_URL or --database-url) is refused: {reason}")
