"""The order to answer questions."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.data.own_template import OwnTemplate
from agent.orders.on_base.model import MICRO_BATCH, LocalOrder, LoraFile
from agent.orders.protocol import Message
from shared.campaign.spec import Template


class Question(Message):
    """A single-turn prompt. ``input`` is further text below the prompt, as in rows of training data."""

    prompt: str
    input: str = ""


class Answered(Message):
    """The answers in the order of the questions. The text chunks of a single question concatenate to its answer."""

    type: Literal["answered"] = "answered"
    texts: list[str]


class AnswerRequest(LocalOrder[Answered]):
    """Answer each question independently. Without questions the model is loaded and nothing else happens.

    Args:
        adapter: the adapter on the base model; None asks the bare base model.
        template: the chat template.
        questions: the prompts. The answer to a single question is also streamed as ``TextChunk`` messages.
        max_new_tokens: most tokens of one answer.
        micro_batch: questions that go through the model at once.
        temperature: 0 decodes greedily; above 0 tokens are sampled.
        seed: seed of the sampling.
    """

    handler: ClassVar[str] = "agent.train.local.answers:answer"

    type: Literal["answer"] = "answer"
    adapter: LoraFile | None = None
    template: Template | OwnTemplate
    questions: list[Question]
    max_new_tokens: Annotated[int, Field(ge=1)] = 200
    micro_batch: Annotated[int, Field(ge=1)] = MICRO_BATCH
    temperature: Annotated[float, Field(ge=0)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0
