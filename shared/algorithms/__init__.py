"""Federated algorithms, by name.

Each module of this folder is a bundled algorithm. Installed distributions add more through the entry point group
``fedloom.algorithms``, whose entries name modules of the same form (see ``base``).
"""

import importlib
import inspect
import logging
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from shared.algorithms.base import (
    Algorithm,
    AlgorithmParams,
    ClientHalf,
    Part,
    RoundFacts,
    ServerHalf,
    Updates,
    UpdateTensor,
)

ENTRY_POINT_GROUP = "fedloom.algorithms"

log = logging.getLogger(__name__)

__all__ = [
    "ENTRY_POINT_GROUP",
    "Algorithm",
    "AlgorithmParams",
    "AlgorithmUnavailable",
    "BrokenAlgorithm",
    "ClientHalf",
    "Part",
    "RoundFacts",
    "ServerHalf",
    "UnknownAlgorithm",
    "UpdateTensor",
    "Updates",
    "bundled",
    "find",
    "names",
    "usable",
]


class AlgorithmUnavailable(LookupError):
    """An algorithm cannot be used here."""


class UnknownAlgorithm(AlgorithmUnavailable):
    """No algorithm has this name. ``known`` lists the existing names."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        super().__init__(f"unknown algorithm {name!r}; known are {', '.join(known)}")


class BrokenAlgorithm(AlgorithmUnavailable):
    """An algorithm is installed, but cannot be loaded or breaks the interface. reason: without paths of the machine."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"the algorithm {name!r} is installed but cannot be used: {reason}")


@cache
def bundled() -> frozenset[str]:
    """The names of the algorithms that come with Fedloom."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return frozenset(name for name in modules if name != "base" and not name.startswith("_"))


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def names() -> list[str]:
    """The names of all bundled and installed algorithms, sorted."""
    return sorted(bundled() | set(_installed()))


@cache
def find(name: str) -> Algorithm:
    """Return the algorithm with this name. A bundled one takes precedence. Raises AlgorithmUnavailable."""
    module: ModuleType
    if name in bundled():
        module = importlib.import_module(f"{__name__}.{name}")
    elif name in _installed():
        module = _load(name, _installed()[name])
    else:
        raise UnknownAlgorithm(name, names())
    summary = (inspect.getdoc(module) or "").split("\n", 1)[0]
    algorithm = Algorithm(name, summary, module.Params, module.Server, module.Client)
    if problem := algorithm.problem():
        raise BrokenAlgorithm(name, problem)
    return algorithm


def usable() -> list[Algorithm]:
    """All algorithms that can be used, by name. Broken ones are logged."""
    found = []
    for name in names():
        try:
            found.append(find(name))
        except BrokenAlgorithm as error:
            log.warning("%s", error)
    return found


def _load(name: str, entry: EntryPoint) -> ModuleType:
    try:
        module: ModuleType = entry.load()
    except Exception as error:
        log.exception("the algorithm %s cannot be loaded", name)
        raise BrokenAlgorithm(name, f"loading it ended in {type(error).__name__}; the log has the reason") from error
    if missing := [part for part in ("Params", "Server", "Client") if not hasattr(module, part)]:
        raise BrokenAlgorithm(name, f"its module has no {', '.join(missing)}")
    return module
