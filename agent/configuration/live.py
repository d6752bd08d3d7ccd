"""The settings as they are now: agent.toml is read again when it has changed, so that no restart is needed.

The owner's word counts from the next task on, and for the result of the one that is under way. A file that cannot be
used settles nothing: the earlier settings may be just those that the owner wanted to narrow, so every task is refused
until the file is right.
"""

import asyncio
import logging
from pathlib import Path

from agent.configuration.problems import lines_of
from agent.configuration.settings import SETTINGS_FILE, AgentSettings, load_settings
from agent.errors import SettingsError, TaskFailed
from shared.wire.tasks.leases import FailureKind

log = logging.getLogger(__name__)

_SECOND_LOOK_S = 1.0
"""Until a file that cannot be used is read once more: an editor may be writing it."""

_Stamp = tuple[int, int, int] | None


class LiveSettings:
    """The settings of a running agent.

    Args:
        settings: what they are at the start.
        path: the file that they were read from; None for settings that never change.
    """

    def __init__(self, settings: AgentSettings, path: Path | None = None) -> None:
        self._settings = settings
        self._path = path
        self._stamp = _stamp(path)
        self._refused: SettingsError | None = None
        self._told = ""
        self.at_start = settings

    @classmethod
    def read(cls, path: Path) -> "LiveSettings":
        """Read a file. Raises SettingsError."""
        stamp = _stamp(path)
        live = cls(load_settings(path), path)
        live._stamp = stamp  # from before the reading: a change meanwhile is seen at the next task
        return live

    async def current(self) -> AgentSettings:
        """The settings for the next task. Raises TaskFailed (refused-by-policy) while the file cannot be used."""
        if not self._look():
            await asyncio.sleep(_SECOND_LOOK_S)
            self._look()
        if self._refused is not None:
            self._tell(str(self._refused))
            # what is wrong in the file is its owner's business: the message leaves this machine
            where = f" in {lines_of(problems)}" if (problems := self._refused.problems) else ""
            message = f"{SETTINGS_FILE} has an error{where}; all tasks are refused until it is corrected"
            raise TaskFailed(FailureKind.REFUSED_BY_POLICY, message)
        return self._settings

    def _look(self) -> bool:
        """Read the file if it has changed. Returns whether it can be used."""
        stamp = _stamp(self._path)
        if self._path is None or stamp == self._stamp:
            return self._refused is None
        try:
            settings = load_settings(self._path)
        except SettingsError as error:
            self._stamp, self._refused = stamp, error
            return False
        self._stamp, self._refused, self._told = stamp, None, ""
        log.info("%s has changed and was read again", SETTINGS_FILE)
        if settings.network != self.at_start.network:
            log.warning("[network] in %s takes effect when the agent is started again", SETTINGS_FILE)
        log_broken_data(settings)
        self._settings = settings
        return True

    def _tell(self, problems: str) -> None:
        """Log once what is wrong in the file."""
        if problems != self._told:
            self._told = problems
            for line in problems.split("\n"):
                log.error("%s", line)
            log.error("%s cannot be used: all tasks are refused until it is corrected", SETTINGS_FILE)


def log_broken_data(settings: AgentSettings) -> None:
    """Log the problems of data tables that cannot be used."""
    for name, problems in settings.broken_data.items():
        for problem in problems:
            log.error("%s, %s; tasks on the data %r fail until it is corrected", SETTINGS_FILE, problem, name)


def _stamp(path: Path | None) -> _Stamp:
    """What tells one state of a file from another; None if there is no file."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status is not None else None
