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
    plain = _differ(own.plain, theirs.plain, exact=exact)
    corrected = _differ(own.corrected, theirs.corrected, exact=exact)
    if plain is not None:
        log.warning("%s: the update of a plain training differs: %s", stack.identity, plain)
        raise stack.refused("its update is not that of Fedloom's own trainer; the log says by how much")
    if corrected is not None:
        log.warning("%s: the update of a training with a gradient term differs: %s", stack.identity, corrected)
        raise stack.refused(
            "it does not train as the algorithm asks: with a gradient term, clipping and weight decay its update is "
            "another than that of Fedloom's own trainer; the log says by how much"
        )


def _differ(own: Mapping[str, Array], theirs: Mapping[str, Array], *, exact: bool) -> str | None:
    """How far two updates are apart if rounding does not explain it; else None."""
    distances = {name: float(np.linalg.norm(theirs[name] - own[name])) for name in own}
    norms = {name: float(np.linalg.norm(own[name])) for name in own}
    whole = math.hypot(*distances.values()) / max(math.hypot(*norms.values()), _TINY)
    single = {name: distances[name] / max(norms[name], _TINY) for name in own}
    worst = max(single, key=lambda name: single[name])
    whole_bound, single_bound = (_EXACT_UPDATE, _EXACT_TENSOR) if exact else (_ROUNDED_UPDATE, _ROUNDED_TENSOR)
    if whole <= whole_bound and single[worst] <= single_bound:
        return None
    return f"by {whole:.2g} of its norm, {worst} by {single[worst]:.2g}"
