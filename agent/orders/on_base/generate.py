"""The order to go on after raw prompts. No template is applied."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.orders.on_base.model import LocalOrder, LoraFile
from agent.orders.protocol import Message

MOST_PROMPTS = 32
"""How many short prompts go through the model at once by default."""


class RawPrompt(Message):
    """A raw text to go on after.

    Args:
        text: the prompt.
        max_new_tokens: most tokens of what follows.
        seed, sample: what is sampled depends on both, on the text, and on nothing else.
    """

    text: str
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    seed: int = 0
    sample: int = 0


class RawText(Message):
    """What follows a prompt.

    Args:
        text: without the stop string and what follows it.
        n_tokens: tokens that were generated.
        is_complete: False if the text ended because it was long enough.
        n_cut: tokens of the prompt that did not fit, from its beginning.
        problem: why there is no text; empty if there is.
    """

    text: str = ""
    n_tokens: int = 0
    is_complete: bool = True
    n_cut: int = 0
    problem: str = ""


class RawGenerated(Message):
    """The texts in the order of the prompts."""

    type: Literal["raw_generated"] = "raw_generated"
    texts: list[RawText]


class GenerateRequest(LocalOrder[RawGenerated]):
    """Go on after each prompt independently.

    Args:
        adapter: the adapter on the base model; None asks the bare base model.
        prompts: raw texts.
        stop: a text ends before the first of these.
        temperature: 0 decodes greedily, whatever the model's own generation configuration says. Above 0 tokens are
            sampled, with the top_k and top_p of that configuration.
        micro_batch: most prompts that go through the model at once; fewer, down to a quarter, where prompts and replies
            are long.
    """

    handler: ClassVar[str] = "agent.train.local.generation.generating:generate"

    type: Literal["generate"] = "generate"
    adapter: LoraFile | None = None
    prompts: list[RawPrompt]
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    temperature: Annotated[float, Field(ge=0)] = 0.0
    micro_batch: Annotated[int, Field(ge=1)] = MOST_PROMPTS
