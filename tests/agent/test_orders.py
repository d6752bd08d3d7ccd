"""The table of orders, and the messages between parent and child, without a child."""

from typing import ClassVar, Literal

import pytest

from agent.configuration.settings import ComputeSettings
from agent.errors import TaskFailed
from agent.orders.job import Done, LocalJob
from agent.orders.on_base.answer import Answered, AnswerRequest
from agent.orders.on_base.merge import Merged, MergeRequest
from agent.orders.order import Order, answer_class, replies_to
from agent.orders.protocol import Message, OutOfMemory
from agent.orders.table import ORDERS, OrderReader


class Twin(Order[Merged]):
    handler: ClassVar[str] = "nowhere:nothing"
    type: Literal["merge"] = "merge"


def refusal(line: bytes) -> str:
    with pytest.raises(TaskFailed) as caught:
        OrderReader(ORDERS).read(line)
    return str(caught.value)


def test_an_unknown_order_is_refused_in_words() -> None:
    known = (
        "'job', 'answer', 'score', 'check', 'merge', 'review', 'measure', 'describe', 'count_tokens', 'chat_prompt', "
        "'likelihood', 'rolling', 'generate', 'own_results'"
    )
    assert refusal(b'{"type": "dream", "secret": 1}') == f"this training child knows no order 'dream', only {known}"


@pytest.mark.parametrize("line", [b'{"job": "SECRET"}', b'{"type": "merge", "dtype": "SECRET"}', b'"SECRET', b"[]"])
def test_a_line_that_is_no_order_is_refused_without_its_values(line: bytes) -> None:
    message = refusal(line)
    assert message.startswith("invalid message: ")
    assert "SECRET" not in message


def test_a_refusal_names_the_field() -> None:
    line = b'{"type": "merge", "adapter": {"lora": {"rank": 2}}, "dtype": "float8"}'
    assert "; merge.dtype: Input should be 'float32', 'bfloat16' or 'float16'" in refusal(line)
    assert "merge.adapter.weights: Field required" in refusal(line)


def test_two_orders_of_a_table_have_two_types() -> None:
    with pytest.raises(TypeError, match="'merge'"):
        OrderReader((*ORDERS, Twin))


def test_a_line_is_read_as_the_order_that_its_table_has() -> None:
    order = Twin(compute=ComputeSettings())
    assert OrderReader((Twin,)).read(order.model_dump_json().encode()) == order


@pytest.mark.parametrize(
    ("order", "answer"), [(LocalJob, Done), (AnswerRequest, Answered), (MergeRequest, Merged), (Twin, Merged)]
)
def test_an_order_says_which_message_answers_it(order: type[Order[Message]], answer: type[Message]) -> None:
    assert answer_class(order) is answer


def test_an_order_without_an_answer_is_a_mistake() -> None:
    class Aimless(Order):  # type: ignore[type-arg]
        pass

    with pytest.raises(TypeError, match="Aimless does not say which message answers it"):
        answer_class(Aimless)


def test_the_answer_to_another_order_is_no_reply() -> None:
    merged = Merged(merge_difference=0.5, file_difference=0.25)
    assert replies_to(MergeRequest).validate_json(merged.model_dump_json()) == merged
    memory = OutOfMemory(peak_bytes=1, longest_row_tokens=2)
    assert replies_to(AnswerRequest).validate_json(memory.model_dump_json()) == memory
    with pytest.raises(ValueError, match="merged"):
        replies_to(AnswerRequest).validate_json(merged.model_dump_json())
