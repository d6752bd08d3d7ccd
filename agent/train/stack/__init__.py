"""Trainers by name: Fedloom's own, ``trl``, and those that installed distributions add.

The entry points of the group ``fedloom.trainers`` name modules with a class ``Stack`` (see ``base``).
"""

from functools import cache

from agent.configuration.trainers import GROUP, OWN, trainer_identity
from agent.errors import TaskFailed
from agent.train.stack import trl
from agent.train.stack.base import Stack
from agent.train.stack.checked import CheckedStack
from shared.plugins import Plugins, PluginUnavailable
from shared.wire.tasks.leases import FailureKind

PLUGINS = Plugins(
    "trainer", package=__name__, group=GROUP, parts=("Stack",), internal=("base", "checked", "handed_out", "training")
)
OWN_STACK = trl.Stack()

__all__ = ["OWN_STACK", "PLUGINS", "Stack", "find"]


@cache
def find(name: str) -> Stack:
    """Return the trainer with this name; one from outside with its failures in words. Raises TaskFailed (trainer)."""
    if name == OWN:
        return OWN_STACK
    try:
        made = PLUGINS.module(name).Stack
        if not (isinstance(made, type) and issubclass(made, Stack)):
            raise PLUGINS.broken(name, "its Stack is not derived from agent.train.stack.base.Stack")
        if missing := sorted(made.__abstractmethods__):
            raise PLUGINS.broken(name, f"its Stack has no {', '.join(missing)}")
        return CheckedStack(made(), name, trainer_identity(name))
    except PluginUnavailable as error:
        message = f"{error}. Repair or upgrade the distribution that provides it, or name another compute.trainer"
        raise TaskFailed(FailureKind.TRAINER, f"{message} in agent.toml") from error
