"""The order to check an owner's data."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.data.checks.report import DataReport
from agent.data.source import DataSource
from agent.orders.on_base.model import LocalOrder
from agent.orders.protocol import Message
from shared.campaign.spec import Template


class Checked(Message):
    """The report on the data."""

    type: Literal["checked"] = "checked"
    report: DataReport


class CheckRequest(LocalOrder[Checked]):
    """Check an owner's data as a campaign would read it.

    Args:
        name: the data's name in agent.toml.
        data: where the data is, and its columns.
        kind: the campaign's kind of training.
        template: the campaign's chat template.
        max_length: the campaign's maximum length of a row, in tokens.
        remote_code: whether the owner allows code that comes with a base model to run.
    """

    handler: ClassVar[str] = "agent.train.local.checking:check"

    type: Literal["check"] = "check"
    name: str
    data: DataSource
    kind: str
    template: Template
    max_length: Annotated[int, Field(ge=1)]
    remote_code: bool
