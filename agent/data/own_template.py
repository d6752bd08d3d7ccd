"""A person's own chat template, which replaces the campaign's."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.campaign.spec import Template
from shared.text.text_file import read_text
from shared.wire.tasks.leases import FailureKind


class OwnTemplate(BaseModel):
    """A Jinja chat template as transformers uses it. name: its file's, which is for the owner's screen alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    text: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a template from a file. Raises TaskFailed (data)."""
        try:
            return cls(name=path.name, text=read_text(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = f"({error.strerror})" if isinstance(error, OSError) else "as UTF-8 text"
            message = f"the owner's template cannot be read {reason}"
            raise TaskFailed(FailureKind.DATA, message, f"the template {path.name} cannot be read {reason}") from error


def template_of(source: DataSource, template: Template) -> Template | OwnTemplate:
    """Return the owner's own template for the data, or the campaign's if there is none. Raises TaskFailed (data)."""
    return template if source.template is None else OwnTemplate.read(source.template)
