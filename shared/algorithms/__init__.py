"""Federated algorithms, by name.

Each module of this folder is a bundled algorithm. Installed distributions add more through the entry point group
``fedloom.algorithms``, whose entries name modules of the same form (see ``base``).
"""

import inspect
import logging
from functools import cache

from shared.algorithms.base import (
    Algorithm,
    AlgorithmParams,
    ClientHalf,
    Part,
    RoundFacts,
    ServerHalf,
    Updates,
    UpdateTensor,
    elementwise,
)
from shared.plugins import BrokenPlugin, Plugins

PLUGINS = Plugins("algorithm", package=__name__, group="fedloom.algorithms", parts=("Params", "Server", "Client"))

log = logging.getLogger(__name__)

__all__ = [
    "PLUGINS",
    "Algorithm",
    "AlgorithmParams",
    "ClientHalf",
    "Part",
    "RoundFacts",
    "ServerHalf",
    "UpdateTensor",
    "Updates",
    "bundled",
    "elementwise",
    "find",
    "names",
    "usable",
]


def bundled() -> frozenset[str]:
    """The names of the algorithms that come with Fedloom."""
    return PLUGINS.bundled


def names() -> list[str]:
    """The names of all bundled and installed algorithms, sorted."""
    return PLUGINS.names()


@cache
def find(name: str) -> Algorithm:
    """Return the algorithm with this name. Raises UnknownPlugin and BrokenPlugin."""
    module = PLUGINS.module(name)
    summary = (inspect.getdoc(module) or "").split("\n", 1)[0]
    algorithm = Algorithm(name, summary, module.Params, module.Server, module.Client)
    if problem := algorithm.problem():
        raise PLUGINS.broken(name, problem)
    return algorithm


def usable() -> list[Algorithm]:
    """All algorithms that can be used, by name. Broken ones are logged."""
    found = []
    for name in names():
        try:
            found.append(find(name))
        except BrokenPlugin as error:
            log.warning("%s", error)
    return found
