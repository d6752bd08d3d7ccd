"""What can go wrong at the coordinator. Errors carry facts and know no HTTP; ``problems`` maps them to replies.

CoordinatorError
├── Unauthenticated      no key, or one that nobody has
├── AgentRevoked         the agent's secret was revoked
├── Forbidden            a key of the wrong kind, or a blob that is none of the caller's business
├── NotFound             no such thing
├── TokenRefused         an enrolment token that is wrong, used or expired
├── NameTaken            an active agent has that name
├── AgentAlreadyRunning  another process of the same agent holds a lease
├── ProtocolNotServed    the caller's fedloom speaks another protocol
├── Invalid              a request that can be read but not accepted; names the fields
├── IllegalMove          the state does not allow it
├── NotKept              a round to go back to, of which something is no longer stored
├── Conflict             the same idempotency key came with another body
├── LeaseLost            the lease belongs to an earlier attempt, or to nobody
├── ResultDiffers        another result was accepted before
├── BadUpdate            an update that breaks the contract; names the tensor
├── BadChunk             a chunk whose bytes do not have its digest
├── WrongOffset          a chunk for another place than the upload's end
├── TooLarge             more bytes than the contract allows
├── RangeNotSatisfiable  a range outside the blob
├── CorruptBlob          stored bytes that no longer have their digest
└── StorageFull          the disk or the database is full
"""

from datetime import datetime

from shared.wire.base import PROTOCOL


class CoordinatorError(Exception):
    """Anything that the coordinator raises on purpose."""


class Unauthenticated(CoordinatorError):
    """No key, or one that nobody has."""

    def __init__(self) -> None:
        super().__init__("send a valid key as `Authorization: Bearer KEY`")


class AgentRevoked(CoordinatorError):
    """The agent was revoked."""

    def __init__(self, agent_name: str) -> None:
        self.agent_name = agent_name
        super().__init__(f"agent {agent_name} was revoked by the operator; enrol again with a new token")


class Forbidden(CoordinatorError):
    """The caller may not do this."""


class NotFound(CoordinatorError):
    """No such thing."""

    def __init__(self, what: str, key: object) -> None:
        self.what = what
        self.key = key
        super().__init__(f"there is no {what} {key}")


class TokenRefused(CoordinatorError):
    """An enrolment token cannot be used."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; ask the operator for a new one (`fedloom token create`)")


class NameTaken(CoordinatorError):
    """An active agent has that name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"an active agent is called {name}; choose another --name, or have the operator revoke it")


class AgentAlreadyRunning(CoordinatorError):
    """Another process of the same agent holds a lease."""

    def __init__(self, agent_name: str, expires_at: datetime) -> None:
        self.agent_name = agent_name
        self.expires_at = expires_at
        super().__init__(
            f"another process of agent {agent_name} holds a lease until {expires_at:%H:%M:%S} UTC; "
            "if it is gone, this one takes over then"
        )


class ProtocolNotServed(CoordinatorError):
    """The caller's fedloom speaks another protocol."""

    def __init__(self, spoken: str) -> None:
        self.spoken = spoken
        super().__init__(
            f"your fedloom speaks protocol {spoken}, this coordinator speaks {PROTOCOL}; install the same version of "
            "fedloom on both sides"
        )


class Invalid(CoordinatorError):
    """A request that cannot be accepted. ``errors`` holds (field, message)."""

    def __init__(self, *errors: tuple[str, str]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors))


class IllegalMove(CoordinatorError):
    """The state does not allow it."""

    def __init__(self, what: str, state: str, to: str) -> None:
        self.what = what
        self.state = state
        self.to = to
        super().__init__(f"{what} is {state} and cannot become {to}")


class NotKept(CoordinatorError):
    """A campaign cannot go back to a round. missing: what is no longer stored. setting: what decides that. possible:
    the rounds that it can go back to."""

    def __init__(self, number: int, missing: str, setting: str, possible: list[int]) -> None:
        self.number = number
        self.missing = missing
        self.setting = setting
        self.possible = possible
        super().__init__(
            f"the {missing} of round {number} is no longer stored ({setting}); "
            f"what can be gone back to: round {in_words(possible)}"
        )


def in_words(numbers: list[int]) -> str:
    """Ascending numbers, runs of them as ``4-6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "none"


class Conflict(CoordinatorError):
    """The same idempotency key came with another body."""


class LeaseLost(CoordinatorError):
    """The lease belongs to an earlier attempt, or to nobody."""

    def __init__(self, task_id: str, attempt: int) -> None:
        self.task_id = task_id
        self.attempt = attempt
        super().__init__(f"attempt {attempt} no longer holds task {task_id}")


class ResultDiffers(CoordinatorError):
    """Another result was accepted before."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"task {task_id} has ended with another result; the first one counts")


class BadUpdate(CoordinatorError):
    """An upload breaks the contract."""

    def __init__(self, reason: str, tensor: str | None = None) -> None:
        self.reason = reason
        self.tensor = tensor
        super().__init__(f"{tensor}: {reason}" if tensor else reason)


class BadChunk(CoordinatorError):
    """A chunk's bytes do not have its digest."""

    def __init__(self) -> None:
        super().__init__("the chunk does not match its Content-Digest (sha-256); send it again")


class WrongOffset(CoordinatorError):
    """A chunk for another place than the upload's end."""

    def __init__(self, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"the upload has {expected} bytes, the chunk starts at {found}")


class TooLarge(CoordinatorError):
    """More bytes than the contract allows."""

    def __init__(self, n_bytes: int, limit: int) -> None:
        self.n_bytes = n_bytes
        self.limit = limit
        super().__init__(f"{n_bytes} bytes, at most {limit} are expected here")


class RangeNotSatisfiable(CoordinatorError):
    """A range outside the blob."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        super().__init__(f"the blob has {n_bytes} bytes")


class CorruptBlob(CoordinatorError):
    """Bytes that do not have the digest that they are named by."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"the bytes of blob {expected} have the digest {found}")


class StorageFull(CoordinatorError):
    """The disk or the database is full."""

    def __init__(self) -> None:
        super().__init__("the coordinator's storage is full; nothing was lost, try again when there is room")
