"""What can go wrong between a client and its coordinator.

FedloomError
├── Unreachable            no answer, or one that does not come from a coordinator
├── InsecureUrl            plain http:// to another host would show the key to everybody on the way
├── MalformedKey           a key that no header can carry
├── Refused                the coordinator said no; ``problem`` holds all that it said
│   ├── Unauthenticated    no key, or one that nobody has
│   ├── Forbidden          a key that may not do this
│   ├── NotFound           no such campaign, agent, token, adapter or blob
│   ├── Invalid            a request that cannot be accepted; ``errors`` names the fields
│   ├── IllegalMove        the state does not allow it
│   ├── NotKept            a round to go back to, of which something is no longer stored
│   └── Conflict           the idempotency key was used with another campaign
├── NoSuchAdapter          the campaign has no such adapter, not yet or no longer
├── CorruptDownload        bytes that do not have the digest they should have
├── FolderNotEmpty         there is something where a folder should go
├── BadAdapterFolder       a folder does not hold an adapter that can be used
├── WaitTimeout            the campaign was not over in time
├── SimulationError        a simulation that cannot be run as it was asked for
├── ComparisonError        a comparison that cannot be run as it was asked for
│   └── TrialFailed        one of its campaigns did not complete
└── PartitionError         the rows cannot be shared out among the clients in the way that was asked for
"""

from pathlib import Path

from shared.wire.problems import FieldProblem, Problem, ProblemType


class FedloomError(Exception):
    """Anything that the client raises on purpose."""


class Unreachable(FedloomError):
    """No answer, or one that does not come from a coordinator."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"{url}: {reason}")


class InsecureUrl(FedloomError):
    """Plain http:// to another host would show the key to everybody on the way."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(
            f"{url} would send your key unencrypted; use https://, or allow it with --insecure (insecure=True)"
        )


class MalformedKey(FedloomError):
    """A key that no header can carry, so it is nobody's."""

    def __init__(self) -> None:
        super().__init__("the key holds a space, a line break or another character that no key has; copy it again")


class Refused(FedloomError):
    """The coordinator said no."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail or problem.title)


class Unauthenticated(Refused):
    """No key, or one that nobody has."""


class Forbidden(Refused):
    """A key that may not do this."""


class NotFound(Refused):
    """No such campaign, agent, token, adapter or blob."""


class Invalid(Refused):
    """A request that cannot be accepted."""

    @property
    def errors(self) -> list[FieldProblem]:
        """The fields that are wrong."""
        return self.problem.errors


class IllegalMove(Refused):
    """The state does not allow it."""


class NotKept(Refused):
    """Something of the round to go back to is no longer stored."""


class Conflict(Refused):
    """The idempotency key was used with another campaign."""


_BY_TYPE: dict[str, type[Refused]] = {
    ProblemType.UNAUTHENTICATED: Unauthenticated,
    ProblemType.FORBIDDEN: Forbidden,
    ProblemType.AGENT_REVOKED: Forbidden,
    ProblemType.NOT_FOUND: NotFound,
    ProblemType.INVALID: Invalid,
    ProblemType.ILLEGAL_MOVE: IllegalMove,
    ProblemType.NOT_KEPT: NotKept,
    ProblemType.CONFLICT: Conflict,
}


def refused(problem: Problem) -> Refused:
    """The error for a problem, by its type."""
    return _BY_TYPE.get(problem.kind, Refused)(problem)


class NoSuchAdapter(FedloomError):
    """The campaign has no such adapter, not yet or no longer."""

    def __init__(self, campaign: str, which: str, reason: str) -> None:
        self.campaign = campaign
        self.which = which
        super().__init__(f"campaign {campaign} has no {which} adapter: {reason}")


class CorruptDownload(FedloomError):
    """Bytes that do not have the digest they should have."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__(f"what was downloaded is not blob {sha256}; try again, and if it stays so ask the operator")


class FolderNotEmpty(FedloomError):
    """There is something where a folder should go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder} exists and is not an empty folder; choose another, or replace it with --force")


class BadAdapterFolder(FedloomError):
    """A folder does not hold an adapter that can be used."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        self.reason = reason
        super().__init__(f"{folder}: {reason}")


class WaitTimeout(FedloomError):
    """The campaign was not over in time. It goes on."""

    def __init__(self, campaign: str, timeout_s: float, state: str) -> None:
        self.campaign = campaign
        self.timeout_s = timeout_s
        super().__init__(f"campaign {campaign} is still {state} after {timeout_s:g} s; it goes on")


class SimulationError(FedloomError):
    """A simulation that cannot be run as it was asked for."""


class ComparisonError(FedloomError):
    """A comparison that cannot be run as it was asked for."""


class TrialFailed(ComparisonError):
    """One of a comparison's campaigns did not complete."""

    def __init__(self, trial: str, reason: str) -> None:
        self.trial = trial
        self.reason = reason
        super().__init__(f"{trial}: {reason}")


class PartitionError(FedloomError):
    """The rows cannot be shared out among the clients of a simulation in the way that was asked for."""
