"""The trainers that this machine has, by name: Fedloom's own, and those that installed distributions add.

A trainer loads a base model, attaches an adapter, trains and evaluates (``agent.train.stack``). Only the owner's
settings name one: no campaign can choose what code runs here. Nothing in this module imports one.
"""

from importlib.metadata import EntryPoint, entry_points

OWN = "trl"
"""Fedloom's own trainer: transformers, PEFT and TRL."""
GROUP = "fedloom.trainers"
"""The entry points that name further trainers, each with a module."""


def installed() -> dict[str, EntryPoint]:
    """The entry points of installed trainers, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def known_trainer(name: str) -> str:
    """Return *name*. Raises ValueError if no trainer has it."""
    if name != OWN and name not in (found := installed()):
        message = (
            f"no trainer {name!r} is installed here; installed are {', '.join(sorted({OWN, *found}))}. Install the "
            f"distribution that provides it (an entry point {name} of {GROUP}) in the agent's environment"
        )
        raise ValueError(message)
    return name


def trainer_identity(name: str) -> str:
    """The name of a trainer with the distribution that provides it and its version; of Fedloom's own the name alone."""
    entry = None if name == OWN else installed().get(name)
    if entry is None:
        return name
    return f"{name} ({entry.dist.name} {entry.dist.version})" if entry.dist is not None else name
