"""The base class of the sections of a campaign file, and of the parameters of its plug-ins."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base class of the sections of a campaign file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
