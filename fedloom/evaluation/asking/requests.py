"""What a model is asked, and what it replies. Each request has a digest, under which its reply is stored."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from shared.digest import sha256_hex


@dataclass(frozen=True)
class Likelihood:
    """How likely a continuation is after a context. Both are raw text: no template is applied.

    Args:
        context: what comes before. Empty: the continuation follows the model's beginning-of-sequence token.
        continuation: what is scored, with its leading white space.
        apart: whether no token spans the border, as between prompt and answer in training. Otherwise both are tokenised
            as one text, and white space at the end of the context is scored too, as in lm-evaluation-harness.
    """

    context: str
    continuation: str
    apart: bool = False


@dataclass(frozen=True)
class Rolling:
    """How likely a whole text is, in windows as long as the model takes."""

    text: str


@dataclass(frozen=True)
class Generate:
    """A text that goes on after a prompt.

    Args:
        prompt: raw text; tasks that speak to a chat model render it first.
        stop: the reply ends before the first of these.
        max_new_tokens: most tokens of the reply.
        temperature: 0 decodes greedily; above 0 tokens are sampled.
        seed: of the sampling.
        sample: number of this sample of the prompt, where a task draws several.
    """

    prompt: str
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    sample: int = 0


Request = Likelihood | Rolling | Generate


@dataclass(frozen=True)
class Scored:
    """The reply to ``Likelihood`` and ``Rolling``.

    Args:
        log_prob: Σ log p over the tokens, in nats; NaN if there is a problem.
        n_tokens: tokens that were scored.
        is_greedy: whether greedy decoding gives exactly them.
        n_cut: tokens of the context that did not fit, from its beginning.
        problem: why it cannot be scored, such as ``needs 3000 positions, and the model has 2048``; empty if it was.
    """

    log_prob: float
    n_tokens: int
    is_greedy: bool = False
    n_cut: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Text:
    """The reply to ``Generate``.

    Args:
        text: without the stop sequence and what follows it.
        n_tokens: tokens that were generated.
        is_complete: False if it ended at ``max_new_tokens``.
        n_cut: tokens of the prompt that did not fit, from its beginning.
        problem: why there is no text; empty if there is.
    """

    text: str
    n_tokens: int
    is_complete: bool = True
    n_cut: int = 0
    problem: str = ""


Reply = Scored | Text


def digest_of(request: Request) -> str:
    """The digest of a request: its kind and all of its fields."""
    facts: dict[str, Any] = {"kind": type(request).__name__, **asdict(request)}
    return sha256_hex(json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
