"""Compares what an owner's trainer computes with what Fedloom's own does, on the owner's rows and with the base."""

import logging
import math
from collections.abc import Mapping

import numpy as np

from agent.train.data.tokens import TokenRows
from agent.train.stack.base import Stack
from agent.train.suitability.measure import agree
from agent.train.suitability.trainer_results import Results
from shared.adapters.files import Array

log = logging.getLogger(__name__)

_EXACT_LOSS, _ROUNDED_LOSS = 1e-3, 3e-2
"""By how much the loss of a step may differ, relative to 1 or to the loss if that is larger: on a float32 base, and on
one of another precision or a quantised one."""
_EXACT_UPDATE, _ROUNDED_UPDATE = 0.05, 0.3
"""‖Δ − Δ'‖ / ‖Δ‖ that rounding explains, likewise: the first steps of AdamW are signs, which rounding turns where a
gradient is almost zero."""
_EXACT_TENSOR, _ROUNDED_TENSOR = 0.5, 0.9
"""The same of any single tensor."""
_TINY = 1e-30


def check_as_own(own: Results, theirs: Results, probes: TokenRows, stack: Stack, *, exact: bool) -> None:
    """Raise TaskFailed (trainer) unless *theirs* differs from *own* by rounding only.

    The numbers stand on a few of the owner's rows, so they are logged and do not leave the machine.

    Args:
        own: what Fedloom's own trainer computed.
        theirs: what the owner's did.
        probes: the rows of the log-probabilities.
        stack: the owner's trainer.
        exact: whether the base computes in float32 and is not quantised.
    """
    difference = float(np.max(np.abs(theirs.log_probs - own.log_probs) / probes.n_supervised))
    log.info("%s: log-probabilities differ by up to %.2g nats a token", stack.identity, difference)
    if not agree(theirs.log_probs, own.log_probs, probes, exact=exact):
        raise stack.refused("it evaluates rows otherwise than Fedloom's own trainer; the log says by how much")
    losses = np.abs(theirs.losses - own.losses) / np.maximum(1.0, np.abs(own.losses))
    log.info("%s: losses of training differ by up to %.2g", stack.identity, losses.max())
    if not losses.max() <= (_EXACT_LOSS if exact else _ROUNDED_LOSS):
        raise stack.refused("its loss in training is not that of Fedloom's own trainer; the log says by how much")
    if not _is_close("a plain update", own.plain, theirs.plain, stack, exact=exact):
        raise stack.refused("its update is not that of Fedloom's own trainer; the log says by how much")
    if not _is_close("an update with a gradient term", own.corrected, theirs.corrected, stack, exact=exact):
        raise stack.refused(
            "it does not train as the algorithm asks: with a gradient term, clipping and weight decay its update is "
            "another than that of Fedloom's own trainer; the log says by how much"
        )


def _is_close(what: str, own: Mapping[str, Array], theirs: Mapping[str, Array], stack: Stack, *, exact: bool) -> bool:
    """Whether rounding explains how far two updates are apart. Logs how far that is."""
    distances = {name: float(np.linalg.norm(theirs[name] - own[name])) for name in own}
    norms = {name: float(np.linalg.norm(own[name])) for name in own}
    whole = math.hypot(*distances.values()) / max(math.hypot(*norms.values()), _TINY)
    single = {name: distances[name] / max(norms[name], _TINY) for name in own}
    worst = max(single, key=lambda name: single[name])
    log.info("%s: %s differs by %.2g of its norm, %s by %.2g", stack.identity, what, whole, worst, single[worst])
    whole_bound, single_bound = (_EXACT_UPDATE, _EXACT_TENSOR) if exact else (_ROUNDED_UPDATE, _ROUNDED_TENSOR)
    return whole <= whole_bound and all(each <= single_bound for each in single.values())
