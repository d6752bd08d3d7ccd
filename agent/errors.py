"""The agent's errors.

AgentError
├── SettingsError          agent.toml cannot be used
├── NotEnrolled            the home folder holds no identity
├── NotInstalled           libraries of the training child are missing
├── AlreadyRunning         another process uses the same home folder
├── RecordUnusable         the record of what was done for campaigns is missing or damaged
├── UnknownCampaign        the record has no campaign that a person may mean
├── NotTakenPart           this agent was in no round of a campaign, and gets none of its adapters
├── NoReport               the owner's report cannot be made as it was asked for
├── IllegalDecision        an owner's decision does not fit what was decided before
├── InsecureCoordinator    plain http:// to another host
├── BadEnvironment         an environment variable cannot be used
├── InvalidOption          a value that a person gave breaks a rule of the wire
├── CoordinatorRefused     a final refusal by the coordinator, with its problem document
│   └── LeaseLost          this process no longer holds the task
├── CoordinatorUnreachable no reply, or a reply that is not from a coordinator
│   └── AskedTooOften      the coordinator is there, and refuses one request too many
├── UnreadableAssignment   a task was granted whose assignment this agent cannot read
├── TransferCorrupted      a blob does not match its digest, even after several downloads
└── TaskFailed             the task cannot be done here; carries the failure to report
"""

import errno
from collections.abc import Sequence
from pathlib import Path

from agent import __version__
from shared.campaign.file import FileProblem
from shared.text.unsafe import one_line
from shared.wire.problems import Problem, ProblemType
from shared.wire.tasks.leases import Failure, FailureKind, LeaseGrant

_MAX_DETAIL = 2000
"""The most characters of a coordinator's explanation that are shown."""


class AgentError(Exception):
    """Base class of the errors that an agent raises deliberately."""


class SettingsError(AgentError):
    """agent.toml cannot be used."""

    def __init__(self, path: Path, reason: str = "", problems: Sequence[FileProblem] = ()) -> None:
        """problems: those of the file's content, each with its line; otherwise *reason* says it all."""
        self.path = path
        self.reason = reason
        self.problems = sorted(problems, key=lambda problem: problem.line)
        super().__init__("\n".join(f"{path}, {problem}" for problem in self.problems) or f"{path}: {reason}")


class NotEnrolled(AgentError):
    """The home folder holds no identity."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"{home} holds no identity; run `fedloom agent enroll --coordinator URL` first")


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


class RecordUnusable(AgentError):
    """The record of what was done for campaigns is missing, damaged, or of another version."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(
            f"{path} cannot be used: {reason}. It holds what campaigns were accepted and what was done for them, so no "
            "work is done without it: restore it from the latest backup, since with an older one totals go down, or "
            "enrol with another --home, whose totals start at zero"
        )


class LedgerUnusable(AgentError):
    """The ledger of what was sent is damaged, or entries of it are missing."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        super().__init__(
            f"{folder} cannot be used: {reason}. It holds what was sent, and nothing is sent without it. "
            "`fedloom agent ledger verify` says what is wrong; restore it from the latest backup, or move the folder "
            "elsewhere, so that a new ledger begins"
        )


class UnknownCampaign(AgentError):
    """The record has no campaign that a person may mean."""

    def __init__(self, named: str) -> None:
        self.named = named
        super().__init__(
            f"this agent knows no campaign with the id, the name or the digest {named}; see: fedloom agent campaigns"
        )


class NotTakenPart(AgentError):
    """This agent was in no round of a campaign, so the coordinator gives it none of its adapters."""

    def __init__(
        self, campaign_name: str, reason: str = "by the coordinator's word it was in none of its rounds"
    ) -> None:
        self.campaign_name = campaign_name
        super().__init__(
            f"this agent gets no adapter of campaign {campaign_name}: {reason}. Only an agent that was let into the "
            "rounds of a campaign gets its adapters; others ask the operator"
        )


class NoReport(AgentError):
    """The owner's report cannot be made as it was asked for. Its text says what to do."""


class IllegalDecision(AgentError):
    """An owner's decision does not fit what was decided before, or the campaign has changed meanwhile."""


class InsecureCoordinator(AgentError):
    """Plain http:// to another host."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(f"{url} is not encrypted: use https://, or --insecure if you know that the network is safe")


class BadEnvironment(AgentError):
    """An environment variable cannot be used."""


class InvalidOption(AgentError):
    """A value that a person gave breaks a rule of the wire."""


class CoordinatorRefused(AgentError):
    """A final refusal by the coordinator."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(one_line(problem.detail or problem.title, _MAX_DETAIL))

    @property
    def kind(self) -> str:
        return self.problem.kind


class LeaseLost(CoordinatorRefused):
    """This process no longer holds the task."""


class CoordinatorUnreachable(AgentError):
    """No reply, or a reply that is not from a coordinator. ``retry_after_s``: the pause that the reply asked for."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        self.reason = one_line(reason, _MAX_DETAIL)
        self.retry_after_s = retry_after_s
        super().__init__(self.reason)


class LedgerUnwritable(CoordinatorUnreachable):
    """A request cannot be noted in the ledger, so it was not sent. It is tried again, as one that nobody answers."""

    def __init__(self, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            super().__init__(f"this agent's disk is full: {error}; nothing is sent until there is some space")
        else:
            super().__init__(f"nothing is sent, since the ledger cannot be written: {error}")


class AskedTooOften(CoordinatorUnreachable):
    """The coordinator is there, and refuses a request because there were too many. It is tried again like others."""


class UnreadableAssignment(AgentError):
    """A task was granted whose assignment this agent cannot read, or whose numbers are out of bounds.

    ``grant``: what ends the task. ``failure``: what to tell the operator.
    """

    def __init__(self, grant: LeaseGrant, reason: str) -> None:
        self.grant = grant
        message = f"this agent cannot use the assignment as it was sent ({reason}); it runs fedloom {__version__}"
        self.failure = Failure.of(FailureKind.UNREADABLE_ASSIGNMENT, message)
        super().__init__(f"the coordinator sent an assignment that cannot be used: {reason}")


class TransferCorrupted(AgentError):
    """A blob does not match its digest, even after several downloads."""

    def __init__(self, expected: str, actual: str, tries: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"blob {expected} does not match its digest after {tries} download{'' if tries == 1 else 's'}; the last "
            f"has SHA-256 {actual}: the coordinator's copy is probably damaged"
        )


class TaskFailed(AgentError):
    """The task cannot be done here. Its text, and ``str`` of it, is for the owner; ``failure`` is what leaves."""

    def __init__(self, kind: FailureKind, message: str, private: str = "") -> None:
        """Make a failure.

        Args:
            kind: why the task failed.
            message: what leaves this machine. It names no path, no file and no person, and quotes no library.
            private: the text for the owner instead, with names of files and the words of libraries.
        """
        self.failure = Failure.of(kind, message)
        self.private = private
        super().__init__(private or message)


def refusal(problem: Problem) -> CoordinatorRefused:
    """Return the exception for a coordinator's problem document."""
    if problem.kind == ProblemType.LEASE_LOST:
        return LeaseLost(problem)
    return CoordinatorRefused(problem)
