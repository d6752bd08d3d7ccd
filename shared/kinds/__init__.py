"""Kinds of training, by name: the shared half of each.

Each module of this folder is a bundled kind. Installed distributions add more through the entry point group
``fedloom.kinds``, whose entries name modules of the same form (see ``base``).
"""

import inspect
import logging
from contextlib import suppress
from functools import cache

from shared.kinds.base import Kind, KindSection
from shared.plugins import Plugins, PluginUnavailable

PLUGINS = Plugins(
    "kind of training",
    package=__name__,
    group="fedloom.kinds",
    parts=("Section", "COMPLETIONS", "LABELS", "METRICS"),
    internal=("base", "reading"),
)

log = logging.getLogger(__name__)

__all__ = ["PLUGINS", "Kind", "KindSection", "bundled", "find", "names", "needs_column"]


def bundled() -> frozenset[str]:
    """The names of the kinds that come with Fedloom."""
    return PLUGINS.bundled


def names() -> list[str]:
    """The names of all bundled and installed kinds, sorted."""
    return PLUGINS.names()


def needs_column(column: str) -> bool:
    """Return whether the rows of any bundled or installed kind have a completion or a label of this name."""
    for name in names():
        with suppress(PluginUnavailable):
            kind = find(name)
            if column in (*kind.completions, *kind.labels):
                return True
    return False


@cache
def find(name: str) -> Kind:
    """Return the kind with this name. Raises UnknownPlugin and BrokenPlugin."""
    module = PLUGINS.module(name)
    summary = (inspect.getdoc(module) or "").split("\n", 1)[0]
    if not (isinstance(module.Section, type) and issubclass(module.Section, KindSection)):
        raise PLUGINS.broken(name, "its Section is not derived from shared.kinds.KindSection")
    for part in ("COMPLETIONS", "LABELS", "METRICS"):
        if isinstance(getattr(module, part), str):
            raise PLUGINS.broken(name, f"its {part} are a text, not a tuple (a comma is missing)")
    try:
        parts = (module.Section, tuple(module.COMPLETIONS), tuple(module.LABELS), tuple(module.METRICS))
        kind = Kind(name, summary, *parts)
        problem = kind.problem()
    except Exception as error:
        log.exception("the kind of training %s cannot be used", name)
        raise PLUGINS.broken(name, f"checking it ended in {type(error).__name__}; the log has the reason") from error
    if problem:
        raise PLUGINS.broken(name, problem)
    return kind
