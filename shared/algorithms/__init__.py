"""Federated algorithms, found by name.

Built-in ones are the modules of this folder; others come from installed distributions through the entry point group
``fedloom.algorithms``, whose entries name a module of the same form (see ``base``).
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
    "ServerHalf",
    "UnknownAlgorithm",
    "UpdateTensor",
    "Updates",
    "bundled",
    "find",
    "names",
]


class UnknownAlgorithm(LookupError):
    """No algorithm has that name. ``known`` lists those that do."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        super().__init__(f"unknown algorithm {name!r}; known are {', '.join(known)}")


@cache
def bundled() -> frozenset[str]:
    """The names of the algorithms that come with Fedloom."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return frozenset(name for name in found if name != "base" and not name.startswith("_"))


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def names() -> list[str]:
    """The names of all algorithms that can be found, sorted."""
    return sorted(bundled() | set(_installed()))


@cache
def find(name: str) -> Algorithm:
    """The algorithm of that name; a built-in one wins. Raises UnknownAlgorithm."""
    module: ModuleType
    if name in bundled():
        module = importlib.import_module(f"{__name__}.{name}")
    elif name in _installed():
        module = _installed()[name].load()
    else:
        raise UnknownAlgorithm(name, names())
    summary = (inspect.getdoc(module) or "").split("\n", 1)[0]
    return Algorithm(name, summary, module.Params, module.Server, module.Client)
