"""Measures whether a base model can be trained here, and which head its loss needs."""

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agent.errors import TaskFailed
from agent.train.base.attached import AttachedAdapter
from agent.train.base.device import autocast
from agent.train.base.model import Base
from agent.train.base.refusals import untrainable
from agent.train.data.tokens import TokenRows
from agent.train.process import memory
from agent.train.suitability.gradient import check_gradient
from agent.train.suitability.heads import tried_head
from agent.train.suitability.probe import change_of_earlier_logits, plain_log_probabilities, probe_rows
from agent.train.trainer.scoring import log_probabilities
from shared.campaign.spec import LoraSection

log = logging.getLogger(__name__)

_EXACT_TOLERANCE, _MEAN_TOLERANCE = 1e-3, 2e-2
"""Nats a token by which two computations of one loss may differ: of each row on a float32 base, and on average over the
rows on a base of another precision, or a quantised one."""
_EXACT_CHANGE, _ROUNDED_CHANGE = 1e-4, 2e-2
"""The largest relative change of earlier logits that rounding explains, likewise."""
_B_SCALE = 0.02


def measure(
    base: Base, lora: LoraSection | None, rows: TokenRows, *, micro_batch: int, exact: bool
) -> tuple[bool, tuple[str, ...]]:
    """Compare the loss by which Fedloom trains with that of plain transformers, and look for other silent faults.

    The adapter has random factors, so that a fault of any adapted layer shows. Returns whether the loss needs the
    model's own head, and notices for the operator. Raises TaskFailed (base-model) if the model cannot be trained.

    Args:
        base: the base model. It is left as it was, and without a mark of its head.
        lora: the campaign's adapter; None measures the bare model.
        rows: rows of the owner's data, at least one.
        micro_batch: the most rows that go through the model at once.
        exact: whether the base computes in float32 and is not quantised.
    """
    probes = probe_rows(rows)
    try:
        if lora is None:
            with base.without_adapter() as model:
                return _judge(base, model, None, probes, micro_batch=micro_batch, exact=exact), ()
        with base.adapter(lora, seed=0) as attached:
            attached.draw(seed=0)
            _randomise_zero_factors(attached)
            own_head = _judge(base, attached.model, attached, probes, micro_batch=micro_batch, exact=exact)
            note = "the loss needs the base model's own head, which takes more memory than the fused one"
            return own_head, (*attached.notices, *([note] if own_head else []))
    except TaskFailed:
        raise
    except Exception as error:  # a model's own code can raise anything, and its text may quote a row
        if memory.is_exhausted(error):
            raise
        log.warning("the base model fails", exc_info=True)
        raise untrainable(f"it fails on text alone ({type(error).__name__}; see the agent's log)") from error


def _judge(
    base: Base, model: Any, attached: AttachedAdapter | None, probes: TokenRows, *, micro_batch: int, exact: bool
) -> bool:
    """Whether the loss needs the model's own head. Raises TaskFailed (base-model), and the model's own errors."""
    model.eval()
    with autocast(base.device, base.autocast_dtype):
        plain = plain_log_probabilities(model, probes, base.device)
        change = change_of_earlier_logits(model, probes, base.device)
    if not np.isfinite(plain).all():
        raise untrainable(f"its logits are not finite in {str(base.dtype).removeprefix('torch.')}")
    if not change <= (_EXACT_CHANGE if exact else _ROUNDED_CHANGE):
        raise untrainable("it attends to later tokens, as an encoder does: changing them changed earlier logits")
    own_head = not _fused_head_agrees(base, model, probes, plain, micro_batch=micro_batch, exact=exact)
    if own_head:
        losses = _losses(base, model, probes, own_head=True, micro_batch=micro_batch)
        if not _agree(losses, plain, probes, exact=exact):
            difference = float(np.max(np.abs(losses - plain) / probes.n_supervised))
            # the reason leaves the machine, and no number that stands on a few of the owner's rows may
            log.warning("the loss in a batch of padded rows differs by %.2g nats a token", difference)
            raise untrainable(
                "its loss in a batch of padded rows differs from that of single rows; the log says by how much"
            )
    if attached is not None:
        check_gradient(base, attached, probes, own_head=own_head)
    return own_head


def _fused_head_agrees(
    base: Base, model: Any, probes: TokenRows, plain: NDArray[np.float64], *, micro_batch: int, exact: bool
) -> bool:
    try:
        losses = _losses(base, model, probes, own_head=False, micro_batch=micro_batch)
    except Exception as error:  # the fused head reaches into the model, which may be built otherwise
        if memory.is_exhausted(error):
            raise
        log.info("the fused head fails on this base model", exc_info=True)
        return False
    return _agree(losses, plain, probes, exact=exact)


def _losses(base: Base, model: Any, probes: TokenRows, *, own_head: bool, micro_batch: int) -> NDArray[np.float64]:
    """The rows' log-probabilities as training and evaluation compute them, in padded batches, (n,)."""
    with tried_head(base.language_model, own_head=own_head):
        return log_probabilities(
            model,
            base.language_model,
            probes,
            micro_batch=max(1, min(micro_batch, len(probes))),
            autocast_dtype=base.autocast_dtype,
            report=lambda _: None,
        )


def _agree(ours: NDArray[np.float64], plain: NDArray[np.float64], probes: TokenRows, *, exact: bool) -> bool:
    """Whether two computations of the rows' log-probabilities, (n,) each, differ by rounding only."""
    difference = np.abs(ours - plain) / probes.n_supervised  # (n,)
    within = difference.max() <= _EXACT_TOLERANCE if exact else difference.mean() <= _MEAN_TOLERANCE
    return bool(np.isfinite(ours).all() and within)


def _randomise_zero_factors(attached: AttachedAdapter) -> None:
    """Draw the factors that start as zero, small, so that every adapted layer takes part in the loss."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in attached.parameters.values():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * _B_SCALE)
