"""Errors of the client and of the command line.

FedloomError
├── Unreachable            no reply, or a reply that does not come from a coordinator
├── InsecureUrl            plain http:// to another host would expose the key
├── BadEnvironment         an environment variable names a proxy or certificates that cannot be used
├── InvalidOption          a value that a person gave breaks a rule of the wire, or names what cannot be used
│   └── BadUrl             the coordinator's address is not a URL
├── MalformedKey           the key has characters that no key has
├── Refused                the coordinator refused the request; ``problem`` is its whole reply
│   ├── Unauthenticated    the coordinator does not know the key
│   │   └── MissingKey     no key was given
│   ├── Forbidden          the key does not permit this request
│   ├── NotFound           the campaign, agent, token, adapter or blob does not exist
│   ├── Invalid            the request is invalid; ``errors`` names the fields
│   ├── IllegalMove        the current state does not allow the request
│   ├── NotKept            a rollback needs something that is no longer stored
│   └── Conflict           the idempotency key was used with another campaign
├── NoSuchAdapter          the campaign has no such adapter, or no longer stores it
├── CorruptDownload        downloaded bytes do not match their digest
├── FolderNotEmpty         the folder to write exists and is not empty
├── BadAdapterFolder       a folder does not hold a usable adapter
├── WaitTimeout            the campaign did not end in time; also a TimeoutError
├── SimulationError        the simulation cannot run as requested
├── ComparisonError        the comparison cannot run as requested
│   ├── FieldError         fields of its file do not fit the campaign, or each other
│   └── TrialFailed        one of its campaigns did not complete
├── EvaluationError        the evaluation cannot run as requested
├── HarnessMissing         lm-evaluation-harness is not installed
├── PartitionError         the rows cannot be split among the clients as requested
├── BadDatabase            a coordinator's database URL is refused
└── DatabaseUnreachable    a coordinator's database cannot be reached or used
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command needs the errors, and few need pydantic
    from shared.wire.problems import FieldProblem, Problem


class FedloomError(Exception):
    """Base class of all errors that Fedloom raises on purpose."""


class Unreachable(FedloomError):
    """No reply, or a reply that does not come from a coordinator."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"{url}: {reason}")


class InsecureUrl(FedloomError):
    """Plain http:// to another host would expose the key."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(f"{url} would send your key unencrypted; use https://, or allow it with insecure=True")


class BadEnvironment(FedloomError):
    """An environment variable has a value that cannot be used, or a name that nothing reads."""


class InvalidOption(FedloomError):
    """A value that a person gave breaks a rule of the wire, or names what cannot be used."""


class BadUrl(InvalidOption):
    """The coordinator's address is not a URL."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        shown = url if "://" in url else url.rpartition("@")[2]  # what is before it may be a password
        super().__init__(f"{shown} is not a valid URL of a coordinator: {reason}")


class MalformedKey(FedloomError):
    """The key has characters that no key has, such as a space or a line break."""

    def __init__(self) -> None:
        super().__init__(
            "malformed key: it contains a space, a line break or another character that no key has; copy it again"
        )


class Refused(FedloomError):
    """The coordinator refused the request."""

    def __init__(self, problem: "Problem") -> None:
        self.problem = problem
        super().__init__(problem.detail or problem.title)


class Unauthenticated(Refused):
    """The coordinator does not know the key."""


class MissingKey(Unauthenticated):
    """No key was given."""


class Forbidden(Refused):
    """The key does not permit this request."""


class NotFound(Refused):
    """The campaign, agent, token, adapter or blob does not exist."""


class Invalid(Refused):
    """The request is invalid."""

    @property
    def errors(self) -> "list[FieldProblem]":
        """The invalid fields."""
        return self.problem.errors


class IllegalMove(Refused):
    """The current state does not allow the request."""


class NotKept(Refused):
    """A rollback needs something that is no longer stored."""


class Conflict(Refused):
    """The idempotency key was used with another campaign."""


def is_outage(error: Unreachable | Refused) -> bool:
    """Whether to wait and try again: the coordinator, or what it needs, is away for now."""
    return isinstance(error, Unreachable) or error.problem.retryable


class NoSuchAdapter(FedloomError):
    """The campaign has no such adapter, or no longer stores it. which: a number, or what it is to the campaign."""

    def __init__(self, campaign: str, which: str, reason: str) -> None:
        self.campaign = campaign
        self.which = which
        adapter = f"adapter {which}" if which.isdecimal() else f"{which} adapter"
        super().__init__(f"campaign {campaign} has no {adapter}: {reason}")


class CorruptDownload(FedloomError):
    """Downloaded bytes do not match their digest."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__(f"the download does not match the digest of blob {sha256}; try again, then ask the operator")


class FolderNotEmpty(FedloomError):
    """The folder to write exists and is not empty."""

    def __init__(self, folder: Path, *, is_forced: bool = False) -> None:
        self.folder = folder
        if is_forced:
            message = f"{folder} is not a folder of an adapter or a model, so it is not replaced; choose another"
        else:
            message = f"{folder} exists and is not an empty folder; choose another, or replace it with force=True"
        super().__init__(message)


class BadAdapterFolder(FedloomError):
    """A folder does not hold a usable adapter."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        self.reason = reason
        super().__init__(f"{folder}: {reason}")


class WaitTimeout(FedloomError, TimeoutError):
    """The campaign did not end in time. It continues."""

    def __init__(self, campaign: str, timeout_s: float, state: str) -> None:
        self.campaign = campaign
        self.timeout_s = timeout_s
        super().__init__(f"campaign {campaign} is still {state} after {timeout_s:g} s; it continues")


class SimulationError(FedloomError):
    """The simulation cannot run as requested."""


class ComparisonError(FedloomError):
    """The comparison cannot run as requested."""


Place = tuple[str | int, ...]
"""Keys and indexes that lead to a value of a file."""


class FieldError(ComparisonError):
    """Fields of a comparison file do not fit its campaign, or each other.

    problems: the place of each, and what is wrong with it.
    """

    def __init__(self, problems: Sequence[tuple[Place, str]]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{'.'.join(map(str, place))}: {message}" for place, message in problems))


class TrialFailed(ComparisonError):
    """One of a comparison's campaigns did not complete."""

    def __init__(self, trial: str, reason: str) -> None:
        self.trial = trial
        self.reason = reason
        super().__init__(f"{trial}: {reason}")


class EvaluationError(FedloomError):
    """The evaluation cannot run as requested."""


class HarnessMissing(FedloomError):
    """lm-evaluation-harness is not installed."""

    def __init__(self) -> None:
        super().__init__("lm-evaluation-harness is not installed; run: pip install 'fedloom[eval]'")


class PartitionError(FedloomError):
    """The rows cannot be split among the clients of a simulation as requested."""


class BadDatabase(FedloomError):
    """A coordinator's database URL is refused."""


class DatabaseUnreachable(FedloomError):
    """A coordinator's database cannot be reached or used."""
