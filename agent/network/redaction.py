"""The second net under all texts that leave this machine: names of this machine and its owner's files are taken out.

The first one is that texts are written without them: ``TaskFailed`` has one text for the operator, and one for the
owner. What an oversight, or a plug-in, lets through all the same is replaced here. A name that the job itself has is
left: the operator knows it, and its absence from an answer would tell that it is a name of this machine.
"""

import contextlib
import getpass
import os
import re
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from agent.configuration.settings import AgentSettings
from agent.data.source import DataSource, name_without_type
from agent.workspace import Workspace
from shared.text.unsafe import one_line
from shared.wire.benchmarks import MAX_REASON, BenchmarkScore
from shared.wire.tasks.leases import Failure
from shared.wire.tasks.results import MAX_NOTICE, BenchmarkResult, PrepareResult, Result

_GONE = "…"
_QUOTED_PATH = re.compile(r"""(['"])(?:file:|~\w*|\.{1,2}|[A-Za-z]:)?[\\/][^'"]*\1""")
_PATH = re.compile(
    r"""(?<![\w.~/\\<-])(?:(?:file:|~\w*|\.{1,2})?/|[A-Za-z]:[\\/]|\\\\)[^\s'"`,;()<>\[\]{}]*[^\s'"`,;:.()<>\[\]{}]"""
)
_ORDINARY = re.compile(r"[a-z]{1,12}|[A-Z][a-z]{1,11}|[0-9]+")
"""A name of a file or folder that is an ordinary word, such as data: messages have it for what it means."""
_OWN_WORDS = frozenset(("held-out", "held_out", "evaluation-data"))
"""Words of many messages, and the usual name of a folder. Taken out, they would tell by their absence what a file is
called."""
_SHARED_NAMES = frozenset(("root", "user", "admin", "agent", "data", "model", "train", "test", "fedloom", "localhost"))
"""Names of users and machines that say nothing of a person."""
_LEAST_CHARACTERS = 3
_LEAST_OF_A_VARIABLE = 8
_MOST_FILES = 2000
"""Files of a data folder whose names are looked for."""


class Redactor:
    """Takes the names of this machine out of texts.

    Args:
        settings: name the data, the models and their folders.
        workspace: the agent's home folder.
        known: what the coordinator sent for the task, as text.
    """

    def __init__(self, settings: AgentSettings, workspace: Workspace, known: str) -> None:
        self._settings = settings
        self._workspace = workspace
        self._known = known.lower()

    def failure(self, failure: Failure) -> Failure:
        """Return the failure as it may leave."""
        return Failure.of(failure.kind, self.text(failure.message))

    def result(self, result: Result) -> Result:
        """Return the result as it may leave: only those of preparations and of benchmarks have texts."""
        if isinstance(result, BenchmarkResult):
            return result.model_copy(update={"scores": [self._score(score) for score in result.scores]})
        if not isinstance(result, PrepareResult) or not result.notices:
            return result
        notices = [one_line(self.text(notice), MAX_NOTICE) for notice in result.notices]
        return result.model_copy(update={"notices": notices})

    def _score(self, score: BenchmarkScore) -> BenchmarkScore:
        return score.model_copy(update={"not_run": one_line(self.text(score.not_run), MAX_REASON)})

    def text(self, text: str) -> str:
        """Return a text without paths, and without the names of files, folders, users and machines."""
        for pattern in (_QUOTED_PATH, _PATH):
            text = pattern.sub(lambda found: found[0] if self._is_known(found[0]) else _GONE, text)
        names = {name.lower(): instead for name, instead in self._names() if not self._is_known(name)}
        if not names:
            return text
        longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        pattern = re.compile(rf"(?<!\w)(?:{longest_first})(?!\w)", re.IGNORECASE)
        return pattern.sub(lambda found: names[found[0].lower()], text)

    def _is_known(self, name: str) -> bool:
        return name.strip("'\"").lower() in self._known

    def _names(self) -> Iterator[tuple[str, str]]:
        """Each name with what stands for it, those of data last."""
        for name in (*_people_and_machines(), *_values_of_variables()):
            yield name, _GONE
        own = (self._workspace.home, self._workspace.cache, self._settings.evaluation.data)
        folders = (*own, *self._settings.models.values())
        for name in (part for folder in folders for part in _telling_parts(folder)):
            yield name, _GONE
        sources = self._settings.data.items()
        for name in (
            part for _, source in sources for path in _paths_of(source) for part in _telling_parts(path.parent)
        ):
            yield name, _GONE
        for key, source in sources:
            for name in _names_of(source):
                yield name, f"a file of data.{key}"
            if source.hub is not None:
                yield source.hub, f"data.{key}"


def _people_and_machines() -> Iterator[str]:
    host = socket.gethostname()
    names = [host, host.partition(".")[0], Path.home().name if "HOME" in os.environ else ""]
    with contextlib.suppress(KeyError, OSError, ImportError):  # an account without a name
        names.append(getpass.getuser())
    yield from (name for name in names if len(name) >= _LEAST_CHARACTERS and name.lower() not in _SHARED_NAMES)


def _values_of_variables() -> Iterator[str]:
    for value in os.environ.values():
        if len(value) >= _LEAST_OF_A_VARIABLE and not _ORDINARY.fullmatch(value):
            yield value


def _paths_of(source: DataSource) -> list[Path]:
    return [path for path in (source.path, source.held_out_path, source.template) if path is not None]


def _names_of(source: DataSource) -> Iterator[str]:
    for path in _paths_of(source):
        yield from _telling(path.name)
        if path.is_dir():
            for found in islice((name for _, _, files in os.walk(path) for name in files), _MOST_FILES):
                yield from _telling(found)


def _telling_parts(path: Path) -> Iterator[str]:
    for part in path.parts:
        yield from _telling(part)


def _telling(name: str) -> Iterator[str]:
    """The name of a file or folder, and that without the type, unless they are ordinary words."""
    for form in (name, name_without_type(name)):
        is_ordinary = _ORDINARY.fullmatch(form) or form.lower() in _OWN_WORDS
        if len(form) >= _LEAST_CHARACTERS and not is_ordinary:
            yield form
