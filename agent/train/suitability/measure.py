"""Measures whether a base model can be trained here, and which head its loss needs."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from agent.train.base.attached import AttachedAdapter
from agent.train.base.device import autocast
from agent.train.base.model import Base
from agent.train.data.tokens import TokenRows
from agent.train.process import memory
from agent.train.suitability.probe import movement_of_the_past, plain_log_probabilities, probe_rows
from agent.train.trainer.head import mark_own_head
from agent.train.trainer.loss import collate
from agent.train.trainer.scoring import add_head, log_probabilities
from shared.adapters.lora import module_of
from shared.campaign.spec import LoraSection

log = logging.getLogger(__name__)

_TOLERANCES = {True: 1e-3, False: 2e-2}
"""Nats a token by which two computations of one loss may differ: of a float32 base, and of others, which round more."""
_CAUSAL = {True: 1e-4, False: 2e-2}
"""The largest movement of earlier logits that rounding explains, likewise."""
_B_SCALE = 0.02
_MODEL_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError, NotImplementedError)


class Verdict(BaseModel):
    """What was measured.

    Attributes:
        own_head: whether the loss needs the model's own head, as TRL's fused one computes another loss.
        notices: what a person should know of a base that can be trained.
        refusal: why it cannot be trained; empty if it can.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    own_head: bool = False
    notices: tuple[str, ...] = ()
    refusal: str = ""


def measure(base: Base, lora: LoraSection | None, rows: TokenRows, *, exact: bool) -> Verdict:
    """Compare the loss by which Fedloom trains with that of plain transformers, and look for other silent faults.

    The adapter has random factors, so that a fault of any adapted layer shows. Raises TaskFailed (base-model) if PEFT
    cannot adapt the model.

    Args:
        base: the base model. It is left as it was, and without a mark of its head.
        lora: the campaign's adapter; None measures the bare model.
        rows: at least one row of the owner's.
        exact: whether the base computes in float32 and is not quantised.
    """
    probes = probe_rows(rows)
    if len(probes) == 0:
        return Verdict()
    mark_own_head(base.language_model, needed=False)
    try:
        if lora is None:
            return _of_adapted(base, None, probes, exact=exact)
        with base.adapter(lora, seed=0) as attached:
            _draw_b(attached)
            verdict = _of_adapted(base, attached, probes, exact=exact)
            return verdict.model_copy(update={"notices": (*attached.notices, *verdict.notices)})
    finally:
        mark_own_head(base.language_model, needed=False)


def _of_adapted(base: Base, attached: AttachedAdapter | None, probes: TokenRows, *, exact: bool) -> Verdict:
    model = attached.model if attached is not None else base.language_model
    model.eval()
    try:
        with autocast(base.device, base.autocast_dtype):
            plain = plain_log_probabilities(model, probes, base.device)
            moved = movement_of_the_past(model, probes, base.device)
    except _MODEL_ERRORS as error:
        return _refused(f"it fails on text alone ({_reason(error)})")
    if not np.isfinite(plain).all():
        return _refused(f"its logits are not finite in {str(base.dtype).removeprefix('torch.')}")
    if not moved <= _CAUSAL[exact]:
        return _refused("it sees the tokens that it is to predict, as an encoder does; its earlier logits move")
    for own_head in (False, True):
        losses = _by_our_path(base, model, probes, own_head=own_head)
        if isinstance(losses, np.ndarray) and _agree(losses, plain, probes, exact=exact):
            break
    else:
        return _refused(_disagreement(losses, plain, probes))
    if attached is not None and (problem := _backward(base, attached, probes)):
        return _refused(problem)
    note = "the loss needs the base model's own head, which takes more memory than the fused one"
    return Verdict(own_head=own_head, notices=(note,) if own_head else ())


def _by_our_path(base: Base, model: Any, probes: TokenRows, *, own_head: bool) -> NDArray[np.float64] | str:
    """The rows' log-probabilities as evaluation computes them, in one batch; or why that fails."""
    mark_own_head(base.language_model, needed=own_head)
    with _forward_restored(base.language_model):
        try:
            return log_probabilities(
                model,
                base.language_model,
                probes,
                micro_batch=len(probes),
                autocast_dtype=base.autocast_dtype,
                report=lambda _: None,
            )
        except _MODEL_ERRORS as error:
            return _reason(error)


def _backward(base: Base, attached: AttachedAdapter, probes: TokenRows) -> str:
    """Compute the gradient of a row's loss. Returns what is wrong with it; empty if nothing is."""
    batch = {key: value.to(base.device) for key, value in collate([probes.example(0)]).items()}
    with _forward_restored(base.language_model):
        add_head(base.language_model)
        try:
            with autocast(base.device, base.autocast_dtype):
                output = attached.model(**batch, fused_lm_head=True)
            (-output.log_probs.sum()).backward()
        except _MODEL_ERRORS as error:
            return f"its gradient cannot be computed ({_reason(error)})"
    gradients = {name: parameter.grad for name, parameter in attached.trained_parameters.items()}
    for parameter in attached.parameters.values():
        parameter.grad = None
    total = float(sum(gradient.abs().sum() for gradient in gradients.values() if gradient is not None))
    if not (math.isfinite(total) and total > 0):
        return f"the gradient of its loss is {total:g}"
    return _unreached([name for name, gradient in gradients.items() if gradient is None], gradients)


def _unreached(unreached: Sequence[str], trained: Iterable[str]) -> str:
    """What is wrong if text never reaches some of the adapted layers; an expert may just not be chosen."""
    modules = {module_of(name) or name for name in unreached if ".experts." not in name}
    if not modules:
        return ""
    leaves = {(module_of(name) or name).rpartition(".")[2] for name in trained}
    others = ", ".join(sorted(leaves - {module.rpartition(".")[2] for module in modules}))
    example = min(modules).removeprefix("base_model.model.")
    layers = f"{len(modules)} layers, {example} among them" if len(modules) > 1 else f"the layer {example}"
    return (
        f"its loss does not depend on the adapters of {layers}; set lora.target_modules in the campaign to "
        f"others, such as [{others}]"
    )


@contextmanager
def _forward_restored(model: Any) -> Iterator[None]:
    """Remove the heads that the block adds."""
    before = vars(model).get("forward")
    try:
        yield
    finally:
        vars(model).pop("forward", None)
        if before is not None:
            model.forward = before


def _draw_b(attached: AttachedAdapter) -> None:
    """Draw the factors that start as zero, small, so that every adapted layer takes part in the loss."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in attached.parameters.values():
            if not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * _B_SCALE)


def _agree(ours: NDArray[np.float64], plain: NDArray[np.float64], probes: TokenRows, *, exact: bool) -> bool:
    """Whether two computations of the rows' log-probabilities differ by rounding only."""
    difference = np.abs(ours - plain) / probes.n_supervised  # (n,)
    return bool(np.isfinite(ours).all() and (difference.max() if exact else difference.mean()) <= _TOLERANCES[exact])


def _disagreement(ours: NDArray[np.float64] | str, plain: NDArray[np.float64], probes: TokenRows) -> str:
    if isinstance(ours, str):
        return f"a batch of padded rows fails ({ours})"
    difference = float(np.max(np.abs(ours - plain) / probes.n_supervised))
    # an owner may report no losses, so only their difference is said
    return f"its loss in a batch of padded rows differs from that of single rows by {difference:.2g} nats a token"


def _reason(error: Exception) -> str:
    """The type of a model's error, whose text stays here, as it may quote a row. Raises the error if memory ran out."""
    if memory.is_exhausted(error):
        raise error
    log.warning("the base model fails", exc_info=error)
    return f"{type(error).__name__}; see the agent's log of this task"


def _refused(reason: str) -> Verdict:
    return Verdict(refusal=f"the base model cannot be trained: {reason}")
