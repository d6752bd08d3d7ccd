"""Which names of base models a campaign may use: hub ids. A folder is named by its owner alone, under ``[models]``.

A name that could be read as a path is refused before anything looks at the disk or the hub, and with the same words
whether there is such a path or not: otherwise a campaign could feel its way around the owner's disk.
"""

import re

from agent.errors import TaskFailed
from shared.campaign.spec import BaseSection
from shared.wire.tasks.leases import FailureKind

_MAX_ID = 96
"""The most characters of a hub id, as the hub has it."""
_MAX_REVISION = 200
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"(?:{_PART}/)?{_PART}")
_REVISION = re.compile(rf"{_PART}(?:/{_PART})*")
_SEPARATORS_OF_THE_CACHE = ("--", "..")
"""The hub forbids them in ids: its cache joins the parts of an id by the first, and the second climbs out of it."""


def is_hub_id(name: str) -> bool:
    """Whether *name* is of the form of a hub id: ``name`` or ``organisation/name``."""
    return (
        len(name) <= _MAX_ID
        and _HUB_ID.fullmatch(name) is not None
        and not any(part in name for part in _SEPARATORS_OF_THE_CACHE)
        and not name.endswith(".git")
    )


def is_revision(name: str) -> bool:
    """Whether *name* is of the form of a branch, tag or commit, none of whose parts leads out of a folder."""
    return len(name) <= _MAX_REVISION and _REVISION.fullmatch(name) is not None and ".." not in name


def check_campaign_base(base: BaseSection, *, is_mapped: bool) -> None:
    """Raise TaskFailed (base-model) if a campaign names its base model by anything but a hub id and a revision of it.

    is_mapped: whether the owner's settings map the name to a folder. Then it is only a name, of any form.
    """
    if is_mapped:
        return
    if not is_hub_id(base.model):
        raise TaskFailed(
            FailureKind.BASE_MODEL,
            "base.model is not a hub id (name, or organisation/name), and this agent takes folders from its own "
            "settings alone: name a hub id, or ask the owner to map the name to a folder under [models] in agent.toml",
        )
    if base.revision is not None and not is_revision(base.revision):
        raise TaskFailed(
            FailureKind.BASE_MODEL,
            "base.revision is not the name of a branch, tag or commit: correct it in the campaign",
        )
