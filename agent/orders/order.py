"""What an order is: a message to the child that says which final message answers it, and who carries it out."""

from functools import cache
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import Field, TypeAdapter

from agent.configuration.settings import ComputeSettings
from agent.orders.protocol import Failed, Message, OutOfMemory, Report, TextChunk

AnswerT = TypeVar("AnswerT", bound=Message)
"""The order's own final message."""


class Order(Message, Generic[AnswerT]):
    """One piece of work for the child.

    Each order also has a field ``type`` with one literal, which tells it from the others. So has its final message.

    Args:
        handler: (of the class) the function that carries the order out, as "module:function". Only the child imports
            it. It takes the order and an ``OrderContext``, and returns the order's own final message.
        compute: what the child may use.
    """

    handler: ClassVar[str]
    compute: ComputeSettings


def answer_class(order: type[Order[AnswerT]]) -> type[AnswerT]:
    """Return the class of the order's own final message: AnswerT of ``Order[AnswerT]``.

    Raises TypeError if the order names none.
    """
    for base in order.__mro__:
        if issubclass(base, Order) and (arguments := base.__pydantic_generic_metadata__["args"]):
            answer: type[AnswerT] = arguments[0]
            return answer
    raise TypeError(f"{order.__name__} does not say which message answers it: derive it from Order[ItsAnswer]")


def replies_to(order: type[Order[AnswerT]]) -> TypeAdapter[Report | TextChunk | AnswerT | Failed | OutOfMemory]:
    """Return the reader of the child's lines while it carries out such an order."""
    return _replies(answer_class(order))


@cache
def _replies(answer: type[Message]) -> TypeAdapter[Any]:
    replies: Any = Annotated[Report | TextChunk | answer | Failed | OutOfMemory, Field(discriminator="type")]
    return TypeAdapter(replies)
