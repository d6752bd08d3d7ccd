"""Kinds of training, by name: the agent half of each, which encodes rows, trains and evaluates.

Each module of this folder is the agent half of a bundled kind. Installed distributions add more through the entry point
group ``fedloom.kinds.agent``, whose entries name modules of the same form (see ``base``).
"""

from typing import Any

from agent.errors import TaskFailed
from agent.train.kinds.base import KindTraining
from shared.plugins import Plugins, PluginUnavailable
from shared.wire.leases import FailureKind

PLUGINS = Plugins(
    "agent half of the kind of training", package=__name__, group="fedloom.kinds.agent", parts=("Training",)
)

__all__ = ["PLUGINS", "KindTraining", "find"]


def find(name: str) -> type[KindTraining[Any]]:
    """Return the agent half of the kind with this name. Raises TaskFailed (training-kind)."""
    try:
        training: type[KindTraining[Any]] = PLUGINS.module(name).Training
    except PluginUnavailable as error:
        message = f"{error}. Repair or upgrade the distribution that provides it, then restart the agent"
        raise TaskFailed(FailureKind.TRAINING_KIND, message) from error
    return training
