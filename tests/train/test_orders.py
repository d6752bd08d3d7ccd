"""Orders and their handlers, and a further order in two files."""

import asyncio
import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from transformers import AutoTokenizer

from agent.child.supervisor import Supervisor
from agent.configuration.settings import ComputeSettings
from agent.orders.on_base.answer import Answered, AnswerRequest
from agent.orders.on_base.model import LocalOrder
from agent.orders.order import AnswerT, Order, answer_class
from agent.orders.protocol import ChildProgress, Failed, OutOfMemory
from agent.orders.table import ORDERS
from agent.train.order_context import OrderContext
from agent.train.process.serving import serve
from agent.train.worker import handler_of
from shared.wire.tasks.leases import FailureKind, Phase
from tests.support.forks.quick_children import SERVER, argv
from tests.train.conftest import UNKNOWN, Lab
from tests.train.further_order.messages import Counted, CountTokens
from tests.train.local_requests import answer_request, ask, local_fields
from tests.train.odd_orders import Mistaken

pytestmark = pytest.mark.train

TEXTS = ["the river", "", "what does the engine do at night?"]

COUNTING_CHILD = """
from agent.orders.table import ORDERS
from agent.train.__main__ import main
from tests.train.further_order.messages import CountTokens

main((*ORDERS, CountTokens))
"""


@pytest.mark.parametrize("order", [*ORDERS, CountTokens])
def test_a_handler_takes_its_order_and_returns_its_answer(order: type[Order[Any]]) -> None:
    handler = handler_of(order)
    hints = get_type_hints(handler)
    assert [hints[name] for name in inspect.signature(handler).parameters] == [order, OrderContext]
    assert hints["return"] is answer_class(order)


class Talk:
    """Orders to one child, with the progress and the texts of the latest."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._supervisor = Supervisor(command)
        self._log = log
        self.phases: list[Any] = []
        self.texts: list[str] = []

    async def say(self, order: LocalOrder[AnswerT]) -> AnswerT | Failed:
        self.phases, self.texts = [], []

        def on_progress(progress: ChildProgress) -> None:
            self.phases.append(progress.phase)

        answer = await self._supervisor.run(order, self._log, on_progress, self.texts.append)
        assert not isinstance(answer, OutOfMemory)
        return answer

    async def end(self) -> None:
        await self._supervisor.stop()


def test_a_further_order_is_carried_out_by_a_child_whose_table_has_it(lab: Lab, tmp_path: Path) -> None:
    question: AnswerRequest = answer_request(lab)
    count = CountTokens(**local_fields(lab), texts=TEXTS)

    async def work() -> None:
        talk = Talk(SERVER.stand_in("-c", COUNTING_CHILD), tmp_path / "log")
        try:
            counted = await talk.say(count)
            tokenizer = AutoTokenizer.from_pretrained(lab.model)
            assert isinstance(counted, Counted)
            assert counted.n_tokens == [len(tokenizer(text)["input_ids"]) for text in TEXTS]
            assert "".join(talk.texts).split() == [str(n) for n in counted.n_tokens]
            assert [*dict.fromkeys(talk.phases)] == [Phase.IMPORTING, Phase.READING_MODEL, Phase.TOKENIZING]
            answered = await talk.say(question)  # the same child takes the orders of the table too
            assert isinstance(answered, Answered)
            assert answered.texts == ask(lab)
            refused = await talk.say(CountTokens(**local_fields(lab, fingerprint=UNKNOWN), texts=TEXTS))
            assert isinstance(refused, Failed)
            assert refused.failure.kind is FailureKind.FINGERPRINT
        finally:
            await talk.end()

    asyncio.run(work())


def test_a_child_refuses_an_order_that_its_table_does_not_have(lab: Lab, tmp_path: Path) -> None:
    async def work() -> None:
        talk = Talk(argv(), tmp_path / "log")
        try:
            refused = await talk.say(CountTokens(**local_fields(lab), texts=TEXTS))
        finally:
            await talk.end()
        assert isinstance(refused, Failed)
        assert refused.failure.message == (
            "this training child knows no order 'count', only 'job', 'answer', 'score', 'check', 'merge', 'review', "
            "'measure', 'describe', 'count_tokens', 'chat_prompt', 'likelihood', 'rolling', 'generate', 'own_results'"
        )

    asyncio.run(work())


def test_a_handler_that_returns_another_message_has_crashed(capfd: pytest.CaptureFixture[str]) -> None:
    sent: list[Any] = []
    order = Mistaken(compute=ComputeSettings(device="cpu"))
    assert serve([order.model_dump_json().encode()], sent.append, (Mistaken,)) == 0
    [answer] = sent
    assert isinstance(answer, Failed)
    assert answer.failure.message == "TypeError in the training process; see the agent's log"
    assert "tests.train.odd_orders:mistake returned TextChunk instead of Done" in capfd.readouterr().err
