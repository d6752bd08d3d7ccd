"""The order to score completions."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.data.own_template import OwnTemplate
from agent.orders.on_base.answer import Question
from agent.orders.on_base.model import MICRO_BATCH, LocalOrder, LoraFile
from agent.orders.protocol import Message
from shared.campaign.spec import Template


class Completed(Question):
    """A single turn with its answer."""

    completion: str


class Scored(Message):
    """Scores of the rows, in their order.

    log_probs: Σ log p over the completion's tokens and the end marker, in nats. n_tokens: the number of these tokens.
    """

    type: Literal["scored"] = "scored"
    log_probs: list[float]
    n_tokens: list[int]


class ScoreRequest(LocalOrder[Scored]):
    """Compute the log-likelihood of each completion given its prompt.

    Args:
        adapter: the adapter on the base model; None scores with the bare base model.
        template: the chat template.
        rows: prompts with their completions.
        micro_batch: rows that go through the model at once.
    """

    handler: ClassVar[str] = "agent.train.local.scoring:score"

    type: Literal["score"] = "score"
    adapter: LoraFile | None = None
    template: Template | OwnTemplate
    rows: list[Completed]
    micro_batch: Annotated[int, Field(ge=1)] = MICRO_BATCH
