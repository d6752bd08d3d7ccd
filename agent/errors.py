"""What can go wrong at an agent.

AgentError
├── SettingsError          agent.toml cannot be used
├── NotEnrolled            there is no identity in the home folder
├── AlreadyRunning         another process uses the same home folder, or the same identity elsewhere
├── InsecureCoordinator    plain http:// to another host
├── CoordinatorRefused     a final "no" of the coordinator, as its problem says
│   └── LeaseLost          the task belongs to this process no longer
├── CoordinatorUnreachable no answer, or one that is not the coordinator's
├── TransferCorrupted      a blob does not have the digest that names it, however often it is downloaded
└── TaskFailed             the task cannot be done here; carries the failure to report
"""

from pathlib import Path

from shared.wire.leases import Failure, FailureKind
from shared.wire.problems import Problem, ProblemType


class AgentError(Exception):
    """Anything that an agent raises on purpose."""


class SettingsError(AgentError):
    """agent.toml cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class NotEnrolled(AgentError):
    """There is no identity in the home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"{home} holds no identity; run `fedloom agent enroll --coordinator URL --token T` first")


class NotInstalled(AgentError):
    """The libraries of the training child are not there."""

    def __init__(self, missing: list[str]) -> None:
        self.missing = missing
        super().__init__(f"{', '.join(missing)} not installed; run: pip install 'fedloom[agent]'")


class AlreadyRunning(AgentError):
    """Another process uses the same home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"another agent process is running in {home}")


class InsecureCoordinator(AgentError):
    """Plain http:// to another host."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(f"{url} is not encrypted: use https://, or --insecure if you know that the network is safe")


class CoordinatorRefused(AgentError):
    """A final "no"."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail or problem.title)

    @property
    def kind(self) -> str:
        return self.problem.kind


class LeaseLost(CoordinatorRefused):
    """The task belongs to this process no longer."""


class CoordinatorUnreachable(AgentError):
    """No answer, or one that is not the coordinator's. ``retry_after_s`` is set where the reply asked for a pause."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class TransferCorrupted(AgentError):
    """A blob does not have the digest that names it, however often it is downloaded."""

    def __init__(self, expected: str, found: str, tries: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"what the coordinator stores as blob {expected} does not have that digest: downloaded {tries} times, the "
            f"last time it had {found}"
        )


class TaskFailed(AgentError):
    """The task cannot be done here."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.failure = Failure(kind=kind, message=message[:4000])
        super().__init__(message)


def refusal(problem: Problem) -> CoordinatorRefused:
    """The exception for a problem of the coordinator."""
    if problem.kind == ProblemType.LEASE_LOST:
        return LeaseLost(problem)
    return CoordinatorRefused(problem)
