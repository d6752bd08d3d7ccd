"""Federated algorithms, by name.

Each module of this folder is a bundled algorithm. Installed distributions add more through the entry point group
``fedloom.algorithms``, whose entries name modules of the same form (see ``base``).
"""

import importlib
import inspect
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

__all__ = [
    "ENTRY_POINT_GROUP",
    "Algorithm",
    "AlgorithmParams",
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
]


class UnknownAlgorithm(LookupError):
    """No algorithm has this name. ``known`` lists the existing names."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        super().__init__(f"unknown algorithm {name!r}; known are {', '.join(known)}")


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
    """Return the algorithm with this name. A bundled one takes precedence. Raises UnknownAlgorithm."""
    module: ModuleType
    if name in bundled():
        module = importlib.import_module(f"{__name__}.{name}")
    elif name in _installed():
        module = _installed()[name].load()
    else:
        raise UnknownAlgorithm(name, names())
    summary = (inspect.getdoc(module) or "").split("\n", 1)[0]
    return Algorithm(name, summary, module.Params, module.Server, module.Client)
