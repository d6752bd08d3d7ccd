"""The orders to score raw texts: continuations after contexts, and whole texts. No template is applied."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.orders.on_base.model import MICRO_BATCH, LocalOrder, LoraFile
from agent.orders.protocol import Message


class RawPair(Message):
    """A context, and the text after it that is scored, white space included. apart: whether no token spans both."""

    context: str
    continuation: str
    apart: bool = False


class RawScore(Message):
    """How likely a text is.

    Args:
        log_prob: Σ log p over its tokens, in nats; 0 if there is a problem.
        n_tokens: tokens that were scored.
        is_greedy: whether each of them is the likeliest at its place.
        n_cut: tokens of the context that did not fit, from its beginning.
        problem: why it cannot be scored; empty if it was.
    """

    log_prob: float = 0.0
    n_tokens: int = 0
    is_greedy: bool = False
    n_cut: int = 0
    problem: str = ""


class RawScored(Message):
    """The scores in the order of what was to be scored."""

    type: Literal["raw_scored"] = "raw_scored"
    scores: list[RawScore]


class LikelihoodRequest(LocalOrder[RawScored]):
    """Compute the log-likelihood of each continuation given its context, or the tokenizer's first token if it is empty.

    Args:
        adapter: the adapter on the base model; None scores with the bare base model.
        pairs: contexts with their continuations.
        micro_batch: rows that go through the model at once.
    """

    handler: ClassVar[str] = "agent.train.local.likelihood:score_pairs"

    type: Literal["likelihood"] = "likelihood"
    adapter: LoraFile | None = None
    pairs: list[RawPair]
    micro_batch: Annotated[int, Field(ge=1)] = MICRO_BATCH


class RollingRequest(LocalOrder[RawScored]):
    """Compute the log-likelihood of each whole text, in windows as long as the model takes.

    Args:
        adapter: the adapter on the base model; None scores with the bare base model.
        texts: the texts.
        micro_batch: windows that go through the model at once.
    """

    handler: ClassVar[str] = "agent.train.local.likelihood:score_texts"

    type: Literal["rolling"] = "rolling"
    adapter: LoraFile | None = None
    texts: list[str]
    micro_batch: Annotated[int, Field(ge=1)] = MICRO_BATCH
