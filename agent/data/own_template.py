"""A chat template of somebody's own, in place of what a campaign names."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from agent.errors import TaskFailed
from agent.settings import DataSource
from shared.campaign import Template
from shared.wire.leases import FailureKind


class OwnTemplate(BaseModel):
    """A Jinja chat template in transformers' way. name: what messages call it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    text: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The template in a file. Raises TaskFailed (data)."""
        try:
            return cls(name=path.name, text=path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = f"({error.strerror})" if isinstance(error, OSError) else "as UTF-8 text"
            raise TaskFailed(FailureKind.DATA, f"the template {path.name} cannot be read {reason}") from error


def template_of(source: DataSource, template: Template) -> Template | OwnTemplate:
    """The template for an owner's data: the owner's own, or what the campaign names. Raises TaskFailed (data)."""
    return template if source.template is None else OwnTemplate.read(source.template)
