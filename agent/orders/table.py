"""All orders, and how the child reads them. A line can name only an order of the table."""

from collections.abc import Sequence
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter, ValidationError

from agent.errors import TaskFailed
from agent.orders.check import CheckRequest
from agent.orders.job import LocalJob
from agent.orders.measure import MeasureRequest
from agent.orders.on_base.answer import AnswerRequest
from agent.orders.on_base.chat_prompt import ChatPromptRequest
from agent.orders.on_base.count_tokens import CountTokensRequest
from agent.orders.on_base.describe import DescribeRequest
from agent.orders.on_base.generate import GenerateRequest
from agent.orders.on_base.likelihood import LikelihoodRequest, RollingRequest
from agent.orders.on_base.merge import MergeRequest
from agent.orders.on_base.score import ScoreRequest
from agent.orders.order import Order
from agent.orders.own_results import OwnResultsRequest
from agent.orders.review import ReviewRequest
from shared.wire.tasks.leases import FailureKind

OrderTable = Sequence[type[Order[Any]]]

ORDERS: OrderTable = (
    LocalJob,
    AnswerRequest,
    ScoreRequest,
    CheckRequest,
    MergeRequest,
    ReviewRequest,
    MeasureRequest,
    DescribeRequest,
    CountTokensRequest,
    ChatPromptRequest,
    LikelihoodRequest,
    RollingRequest,
    GenerateRequest,
    OwnResultsRequest,
)


class OrderReader:
    """Reads the parent's lines as orders of a table."""

    def __init__(self, orders: OrderTable) -> None:
        """Raises TypeError if two orders have the same ``type``."""
        any_order: Any = Annotated[Union[tuple(orders)], Field(discriminator="type")]  # noqa: UP007 - from a table
        self._adapter: TypeAdapter[Order[Any]] = TypeAdapter(any_order)

    def read(self, line: bytes) -> Order[Any]:
        """Return the order of a line. Raises TaskFailed (crash) if the line is not an order of the table."""
        try:
            return self._adapter.validate_json(line)
        except ValidationError as error:
            raise TaskFailed(FailureKind.CRASH, _in_words(error)) from error


def _in_words(error: ValidationError) -> str:
    """What is wrong with a line. It quotes no value, except the type of an unknown order."""
    reasons = []
    for each in error.errors(include_input=False):
        if each["type"] == "union_tag_invalid" and not each["loc"]:
            known = each["ctx"]
            return f"this training child knows no order {known['tag']!r}, only {known['expected_tags']}"
        place = ".".join(map(str, each["loc"]))
        reasons.append(f"{place}: {each['msg']}" if place else each["msg"])
    return f"invalid message: {'; '.join(reasons)}"
