"""The base class of the sections of a campaign file, and of the parameters of its plug-ins."""

from typing import ClassVar

from pydantic import ConfigDict

from shared.bounds import Bounded

FROM_COORDINATOR = {"from": "coordinator"}
"""Validation context for a campaign that a coordinator has accepted already."""


class Section(Bounded):
    """Base class of the sections of a campaign file."""

    model_config = ConfigDict(extra="forbid")

    _keep: ClassVar[str] = "\n\t"  # a person writes the file, and a parameter may be a text of several lines
