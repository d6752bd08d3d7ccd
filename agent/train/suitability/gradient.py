"""The gradient of a row's loss: whether it can be computed, and whether it reaches every adapted layer."""

import math
from collections.abc import Iterable, Sequence

import torch

from agent.train.base.attached import AttachedAdapter
from agent.train.base.device import autocast
from agent.train.base.model import Base
from agent.train.base.refusals import untrainable
from agent.train.data.tokens import TokenRows
from agent.train.suitability.trying import tried
from agent.train.trainer.loss import collate
from agent.train.trainer.scoring import add_head
from shared.adapters.lora import module_of

_PEFT_PREFIX = "base_model.model."


def check_gradient(base: Base, attached: AttachedAdapter, rows: TokenRows, *, own_head: bool, joins: bool) -> None:
    """Compute the gradient of the loss of the first row, or of the first two where rows are joined, in evaluation mode.

    Raises TaskFailed (base-model) if the gradient is not finite, or does not reach a layer that the adapter covers; and
    the model's own errors. An expert is exempt, as it may just not be chosen.
    """
    examples = [rows.example(number) for number in range(2 if joins else 1)]
    batch = {key: value.to(base.device) for key, value in collate(examples).items()}
    with tried(base.language_model, own_head=own_head, joins=joins), autocast(base.device, base.autocast_dtype):
        add_head(base.language_model)
        output = attached.model(**batch, fused_lm_head=True)
        loss = -output.log_probs.sum()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in attached.trained_parameters.items()}
    for parameter in attached.parameters.values():
        parameter.grad = None
    if not all(math.isfinite(float(each.abs().sum())) for each in gradients.values() if each is not None):
        raise untrainable("the gradient of its loss is not finite")
    may_underflow = base.dtype == torch.float16
    unreached = [
        name for name, each in gradients.items() if each is None or not (may_underflow or bool(each.any().item()))
    ]
    _check_reached(unreached, gradients)


def _check_reached(unreached: Sequence[str], trained: Iterable[str]) -> None:
    modules = {module_of(name) or name for name in unreached if ".experts." not in name}
    if not modules:
        return
    leaves = {(module_of(name) or name).rpartition(".")[2] for name in trained}
    others = ", ".join(sorted(leaves - {module.rpartition(".")[2] for module in modules}))
    example = min(modules).removeprefix(_PEFT_PREFIX)
    layers = f"{len(modules)} layers, {example} among them" if len(modules) > 1 else f"the layer {example}"
    remedy = "set lora.target_modules in the campaign to others"
    raise untrainable(
        f"its loss does not depend on the adapters of {layers}; {remedy}{f', such as [{others}]' if others else ''}"
    )
