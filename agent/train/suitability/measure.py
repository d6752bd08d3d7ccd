"""Measures whether a base model can be trained here, and which head its loss needs."""

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from agent.errors import TaskFailed
from agent.train.base.attached import AttachedAdapter
from agent.train.base.device import autocast
from agent.train.base.model import Base
from agent.train.base.refusals import untrainable
from agent.train.data.tokens import TokenRows
from agent.train.process import memory
from agent.train.suitability.gradient import check_gradient
from agent.train.suitability.in_training import in_training
from agent.train.suitability.probe import (
    change_of_earlier_logits,
    forked,
    plain_log_probabilities,
    probe_rows,
    with_another_longest,
)
from agent.train.suitability.trying import tried
from agent.train.trainer.packing import may_share, why_not
from agent.train.trainer.scoring import log_probabilities
from shared.campaign.spec import LoraSection

log = logging.getLogger(__name__)

_EXACT_TOLERANCE, _MEAN_TOLERANCE = 1e-3, 2e-2
"""Nats a token by which two computations of one loss may differ: of each row on a float32 base, and on average over the
rows on a base of another precision, or a quantised one."""
_EXACT_LEAK, _ROUNDED_LEAK = 1e-5, 2e-3
"""Nats a token by which the loss of any row may differ with other rows before it, likewise."""
_EXACT_CHANGE, _ROUNDED_CHANGE = 1e-4, 2e-2
"""The largest relative change of earlier logits that rounding explains, likewise."""
_B_SCALE = 0.02


class Measured(BaseModel):
    """How a base computes its loss.

    Attributes:
        own_head: whether it needs the model's own head, as TRL's fused one computes another loss.
        padded_because: why the rows of a batch are padded; None if they are joined.
        shares: whether what several of them begin with is computed once.
        bytes_per_token: what a backward pass needs of each token; 0 for the bare model, which is not trained.
        draws: whether it draws at random in training, for dropout or whatever else.
        notices: what the operator should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    own_head: bool
    padded_because: str | None
    shares: bool = False
    bytes_per_token: int = 0
    draws: bool = True
    notices: tuple[str, ...] = ()


def measure(base: Base, lora: LoraSection | None, rows: TokenRows, *, micro_batch: int, exact: bool) -> Measured:
    """Compare the loss by which Fedloom trains with that of plain transformers, and look for other silent faults.

    The adapter has random factors, so that a fault of any adapted layer shows. Raises TaskFailed (base-model) if the
    model cannot be trained.

    Args:
        base: the base model. It is left as it was, and without marks.
        lora: the campaign's adapter; None measures the bare model.
        rows: rows of the owner's data, at least one.
        micro_batch: the most rows that go through the model at once.
        exact: whether the base computes in float32 and is not quantised.
    """
    probes = probe_rows(rows)
    try:
        if lora is None:
            with base.without_adapter() as model:
                return _judge(base, model, None, probes, micro_batch=micro_batch, exact=exact)
        with base.adapter(lora, seed=0) as attached:
            attached.draw(seed=0)
            randomise_zero_factors(attached)
            found = _judge(base, attached.model, attached, probes, micro_batch=micro_batch, exact=exact)
            note = "the loss needs the base model's own head, which takes more memory than the fused one"
            return found.model_copy(update={"notices": (*attached.notices, *([note] if found.own_head else []))})
    except TaskFailed:
        raise
    except Exception as error:  # a model's own code can raise anything, and its text may quote a row
        if memory.is_exhausted(error):
            raise
        log.warning("the base model fails", exc_info=True)
        raise untrainable(f"it fails on text alone ({type(error).__name__}; see the agent's log)") from error


def _judge(
    base: Base, model: Any, attached: AttachedAdapter | None, probes: TokenRows, *, micro_batch: int, exact: bool
) -> Measured:
    """How the loss is computed. Raises TaskFailed (base-model), and the model's own errors."""
    model.eval()
    with autocast(base.device, base.autocast_dtype):
        plain = plain_log_probabilities(model, probes, base.device)
        change = change_of_earlier_logits(model, probes, base.device)
    if not np.isfinite(plain).all():
        raise untrainable(f"its logits are not finite in {str(base.dtype).removeprefix('torch.')}")
    if not change <= (_EXACT_CHANGE if exact else _ROUNDED_CHANGE):
        raise untrainable("it attends to later tokens, as an encoder does: changing them changed earlier logits")
    fused = _tried(base, model, probes, joins=False, micro_batch=micro_batch)
    own_head = fused is None or not agree(fused, plain, probes, exact=exact)
    losses = _losses(base, model, probes, own_head=True, joins=False, micro_batch=micro_batch) if own_head else fused
    assert losses is not None
    if own_head and not agree(losses, plain, probes, exact=exact):
        difference = float(np.max(np.abs(losses - plain) / probes.n_supervised))
        # the reason leaves the machine, and no number that stands on a few of the owner's rows may
        log.warning("the loss in a batch of padded rows differs by %.2g nats a token", difference)
        raise untrainable(
            "its loss in a batch of padded rows differs from that of single rows; the log says by how much"
        )
    padded_because: str | None = "its own head scores them"
    if not own_head:
        padded_because = _why_padded(base, model, probes, losses, micro_batch=max(2, micro_batch), exact=exact)
    n_bytes, draws = 0, True
    if attached is not None:
        check_gradient(base, attached, probes, own_head=own_head, joins=padded_because is None)
        n_bytes, draws = in_training(base, attached, probes, own_head=own_head)
    shares = padded_because is None and _can_share(base, model, probes, exact=exact)
    return Measured(
        own_head=own_head, padded_because=padded_because, shares=shares, bytes_per_token=n_bytes, draws=draws
    )


def _why_padded(
    base: Base, model: Any, probes: TokenRows, padded: NDArray[np.float64], *, micro_batch: int, exact: bool
) -> str | None:
    """Why the model cannot take the rows of a batch end to end; None if it can.

    padded: the rows' log-probabilities in padded batches, (n,).
    """
    if (reason := why_not(base.language_model)) is not None:
        return reason
    others, same = with_another_longest(probes)
    joined = [_tried(base, model, rows, joins=True, micro_batch=micro_batch) for rows in (probes, others)]
    if joined[0] is None or joined[1] is None:
        return "it fails on positions that restart; see the agent's log"
    # the longest row comes first, so that what leaks from it reaches the others
    leak = float(np.max(np.abs(joined[1] - joined[0])[same] / probes.n_supervised[same]))
    changes = float(np.max(np.abs(joined[0] - padded) / probes.n_supervised))
    agrees = changes <= _EXACT_LEAK if exact else agree(joined[0], padded, probes, exact=False)
    if agrees and leak <= (_EXACT_LEAK if exact else _ROUNDED_LEAK):
        return None
    log.info("a row's loss changes by up to %.2g nats a token with other rows before it", max(leak, changes))
    return "with other rows before it, a row has another loss"


def _can_share(base: Base, model: Any, probes: TokenRows, *, exact: bool) -> bool:
    """Whether rows that begin alike have the losses that they have end to end."""
    rows = forked(probes)
    if rows is None or not may_share(base.language_model):
        return False
    whole = _tried(base, model, rows, joins=True, micro_batch=len(rows))
    shared = _tried(base, model, rows, joins=True, shares=True, micro_batch=len(rows))
    if whole is None or shared is None:
        return False
    changes = float(np.max(np.abs(shared - whole) / rows.n_supervised))
    if changes <= _EXACT_LEAK if exact else agree(shared, whole, rows, exact=False):
        return True
    log.info("rows that share a beginning have losses that differ by up to %.2g nats a token", changes)
    return False


def _tried(
    base: Base, model: Any, probes: TokenRows, *, joins: bool, shares: bool = False, micro_batch: int
) -> NDArray[np.float64] | None:
    """As ``_losses``, and None if the model fails: it may be built otherwise than this way of computing expects."""
    try:
        return _losses(base, model, probes, own_head=False, joins=joins, shares=shares, micro_batch=micro_batch)
    except Exception as error:
        if memory.is_exhausted(error):
            raise
        log.info("%s fails on this base model", "joining rows" if joins else "the fused head", exc_info=True)
        return None


def _losses(
    base: Base,
    model: Any,
    probes: TokenRows,
    *,
    own_head: bool,
    joins: bool,
    shares: bool = False,
    micro_batch: int,
) -> NDArray[np.float64]:
    """The rows' log-probabilities as training and evaluation compute them, in batches, (n,)."""
    with tried(base.language_model, own_head=own_head, joins=joins, shares=shares):
        return log_probabilities(
            model,
            base.language_model,
            probes,
            micro_batch=max(1, min(micro_batch, len(probes))),
            autocast_dtype=base.autocast_dtype,
            report=lambda _: None,
        )


def agree(ours: NDArray[np.float64], plain: NDArray[np.float64], probes: TokenRows, *, exact: bool) -> bool:
    """Whether two computations of the rows' log-probabilities, (n,) each, differ by rounding only."""
    difference = np.abs(ours - plain) / probes.n_supervised  # (n,)
    within = difference.max() <= _EXACT_TOLERANCE if exact else difference.mean() <= _MEAN_TOLERANCE
    return bool(np.isfinite(ours).all() and within)


def randomise_zero_factors(attached: AttachedAdapter) -> None:
    """Draw the factors that start as zero, small, so that every adapted layer takes part in the loss."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in attached.parameters.values():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * _B_SCALE)
