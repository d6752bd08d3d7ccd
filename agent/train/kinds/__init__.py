"""Kinds of training, by name: the agent half of each, which encodes rows, trains and evaluates.

Each module of this folder is the agent half of a bundled kind. Installed distributions add more through the entry point
group ``fedloom.kinds.agent``, whose entries name modules of the same form (see ``base``).
"""

import math
from collections.abc import Mapping
from typing import Any

from agent.errors import TaskFailed
from agent.train.kinds.base import KindTraining
from shared.kinds import Kind
from shared.metrics import Origin
from shared.plugins import BrokenPlugin, Plugins, UnknownPlugin
from shared.wire.tasks.leases import FailureKind

PLUGINS = Plugins(
    "agent half of the kind of training", package=__name__, group="fedloom.kinds.agent", parts=("Training",)
)

__all__ = ["PLUGINS", "KindTraining", "check_measured", "find"]


def find(name: str) -> type[KindTraining[Any]]:
    """Return the agent half of the kind with this name. Raises TaskFailed (training-kind)."""
    try:
        training: type[KindTraining[Any]] = PLUGINS.module(name).Training
    except UnknownPlugin as error:
        message = (
            f"the agent half of the kind of training {name} is not installed at this agent. Install the distribution "
            f"that provides it (an entry point {name} of {PLUGINS.group}), then restart the agent"
        )
        raise TaskFailed(FailureKind.TRAINING_KIND, message) from error
    except BrokenPlugin as error:
        message = f"{error}. Repair or upgrade the distribution that provides it, then restart the agent"
        raise TaskFailed(FailureKind.TRAINING_KIND, message) from error
    return training


def check_measured(kind: Kind, origin: Origin, values: Mapping[str, float]) -> None:
    """Check the metrics that an agent half returned.

    Raises TaskFailed: training-kind if they are not those that its shared half declares, or one is out of its bounds;
    crash if one is not finite.
    """
    declared = {metric.name: metric for metric in kind.metrics_of(origin)}
    if origin is Origin.EVALUATION and (missing := sorted(declared.keys() - values.keys())):
        message = f"the evaluation of the kind {kind.name} did not return {', '.join(missing)}"
        raise TaskFailed(FailureKind.TRAINING_KIND, message)
    for name, value in values.items():
        if name not in declared:
            message = f"the kind {kind.name} measured {name!r}, which its METRICS do not have for {origin}"
            raise TaskFailed(FailureKind.TRAINING_KIND, message)
        if not math.isfinite(value):
            raise TaskFailed(FailureKind.CRASH, f"the {declared[name].title} is {value}")
        if problem := declared[name].problem(value):
            # an owner may report no values of a training, and the message leaves the machine
            said = problem if origin is Origin.EVALUATION else "a value outside of its bounds"
            raise TaskFailed(FailureKind.TRAINING_KIND, f"the kind {kind.name} measured {name}: {said}")
