"""The agent's errors.

AgentError
├── SettingsError          agent.toml cannot be used
├── NotEnrolled            the home folder holds no identity
├── NotInstalled           libraries of the training child are missing
├── AlreadyRunning         another process uses the same home folder
├── InsecureCoordinator    plain http:// to another host
├── CoordinatorRefused     a final refusal by the coordinator, with its problem document
│   └── LeaseLost          this process no longer holds the task
├── CoordinatorUnreachable no reply, or a reply that is not from a coordinator
├── TransferCorrupted      a blob does not match its digest, even after several downloads
└── TaskFailed             the task cannot be done here; carries the failure to report
"""

from collections.abc import Sequence
from pathlib import Path

from shared.campaign.file import FileProblem
from shared.wire.leases import Failure, FailureKind
from shared.wire.problems import Problem, ProblemType


class AgentError(Exception):
    """Base class of the errors that an agent raises deliberately."""


class SettingsError(AgentError):
    """agent.toml cannot be used."""

    def __init__(self, path: Path, reason: str = "", problems: Sequence[FileProblem] = ()) -> None:
        """problems: those of the file's content, each with its line; otherwise *reason* says it all."""
        self.path = path
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(f"{path}, {problem}" for problem in self.problems) or f"{path}: {reason}")


class NotEnrolled(AgentError):
    """The home folder holds no identity."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"{home} holds no identity; run `fedloom agent enroll --coordinator URL --token T` first")


class NotInstalled(AgentError):
    """Libraries of the training child are missing."""

    def __init__(self, missing: list[str]) -> None:
        self.missing = missing
        super().__init__(f"{', '.join(missing)} not installed; run: pip install 'fedloom[agent]'")


class AlreadyRunning(AgentError):
    """Another process uses the same home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"another agent process is running in {home}; stop it, or use another --home")


class InsecureCoordinator(AgentError):
    """Plain http:// to another host."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(f"{url} is not encrypted: use https://, or --insecure if you know that the network is safe")


class CoordinatorRefused(AgentError):
    """A final refusal by the coordinator."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail or problem.title)

    @property
    def kind(self) -> str:
        return self.problem.kind


class LeaseLost(CoordinatorRefused):
    """This process no longer holds the task."""


class CoordinatorUnreachable(AgentError):
    """No reply, or a reply that is not from a coordinator. ``retry_after_s``: the pause that the reply asked for."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class TransferCorrupted(AgentError):
    """A blob does not match its digest, even after several downloads."""

    def __init__(self, expected: str, actual: str, tries: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"blob {expected} does not match its digest after {tries} downloads; the last has SHA-256 {actual}: "
            "the coordinator's copy is probably damaged"
        )


class TaskFailed(AgentError):
    """The task cannot be done here."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        self.failure = Failure(kind=kind, message=message[:4000])
        super().__init__(message)


def refusal(problem: Problem) -> CoordinatorRefused:
    """Return the exception for a coordinator's problem document."""
    if problem.kind == ProblemType.LEASE_LOST:
        return LeaseLost(problem)
    return CoordinatorRefused(problem)
