"""Which modules of a base model get an adapter, named one by one, so that PEFT cannot match any other."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from agent.train.base.refusals import unusable
from shared.campaign.spec import LoraSection

_LINEAR = (nn.Linear, Conv1D)


@dataclass(frozen=True)
class Targets:
    """names: the adapted modules, sorted. notices: what stays frozen although one may expect otherwise."""

    names: tuple[str, ...]
    notices: tuple[str, ...] = ()


def choose_targets(model: Any, lora: LoraSection) -> Targets:
    """Choose the modules that an adapter of *lora* covers. Raises TaskFailed (base-model) if there are none.

    The choice depends on the model's structure only, so all agents make the same one. It leaves out the head, the
    towers of a multimodal model that text never reaches, and the experts that a mixture stores as one stacked tensor:
    PEFT gives them factors of several times the rank, which cannot be cut, aggregated or served as other factors are.
    """
    linear = _linear_names(model)
    tower = _text_tower(model)
    text = [name for name in linear if name.startswith(tower)]
    experts = _stacked_experts(model)
    wanted = [] if isinstance(lora.target_modules, str) else lora.target_modules
    shared_names = {leaf for leaf in map(_leaf, {*text, *wanted}) if experts and _means_experts(model, lora, leaf)}
    if isinstance(lora.target_modules, str):
        names = [name for name in text if _leaf(name) not in shared_names]
    else:
        _check_known(lora.target_modules, text, experts, shared_names)
        names = [name for name in text if any(f".{name}".endswith(f".{target}") for target in lora.target_modules)]
    if not names:
        raise unusable("the base model has no linear layer that an adapter can cover")
    notices = []
    if experts and isinstance(lora.target_modules, str):
        notices.append("the experts of the base model stay frozen, because they are stored as stacked tensors")
        if names_of_both := ", ".join(sorted(shared_names)):
            notices.append(
                f"{names_of_both} outside the experts stay frozen too, because PEFT matches the experts by these names"
            )
    if frozen := len(linear) - len(text):
        notices.append(f"{frozen} linear layers of the base model stay frozen: they belong to towers that read no text")
    return Targets(tuple(sorted(names)), tuple(notices))


def _linear_names(model: Any) -> list[str]:
    """The linear modules, without the head."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if _is_linear(module) and module is not head]


def _is_linear(module: nn.Module) -> bool:
    """Whether a module multiplies its input by its weight, and no more. A router may derive from a linear layer."""
    if not isinstance(module, _LINEAR):
        return False
    quantized = type(module).__module__.startswith("bitsandbytes")
    if quantized or type(module).forward in (nn.Linear.forward, Conv1D.forward):
        return True
    values = torch.ones(1, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
    with torch.no_grad():
        output = module(values)
        product = nn.functional.linear(values, module.weight, module.bias)
    return isinstance(output, torch.Tensor) and torch.allclose(output, product, rtol=1e-2, atol=1e-2)


def _text_tower(model: Any) -> str:
    """The prefix of the modules that text passes through: in a multimodal model the text decoder's, else empty."""
    if model.config.get_text_config() is model.config:
        return ""
    decoder = model.get_decoder()
    path = next((name for name, module in model.named_modules() if module is decoder), "")
    return f"{path}." if path else ""


def _stacked_experts(model: Any) -> list[str]:
    """The parameters of experts that are not linear modules: tensors that hold the weights of all experts."""
    linear = {name for name, module in model.named_modules() if _is_linear(module)}
    return [
        name
        for name, _ in model.named_parameters()
        if "experts" in name.split(".") and name.rpartition(".")[0] not in linear
    ]


def _means_experts(model: Any, lora: LoraSection, leaf: str) -> bool:
    """Whether PEFT takes the last part of a module's name for the experts' stacked tensors."""
    config = LoraConfig(r=lora.rank, target_modules=[leaf], task_type="CAUSAL_LM")
    try:
        convert_peft_config_for_transformers(config, model=model, conversions=None)
    except ValueError:  # a part of a fused tensor
        return True
    return bool(config.target_parameters)


def _check_known(targets: Iterable[str], linear: Iterable[str], experts: Iterable[str], shared_names: set[str]) -> None:
    """Raise TaskFailed (base-model) if one of the campaign's *targets* cannot be adapted."""
    stacked = {_leaf(name) for name in experts}
    unfit = [target for target in targets if _leaf(target) in shared_names | stacked]
    if unfit:
        message = (
            f"target_modules: in this model {', '.join(unfit)} means the experts, which are stored as stacked tensors "
            "and cannot be adapted; name other modules, or all-linear, which leaves the experts out"
        )
        raise unusable(message)
    absent = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if absent:
        present = ", ".join(sorted({_leaf(name) for name in linear} - shared_names))
        raise unusable(f"target_modules: this model has no linear module {', '.join(absent)}; it has {present}")


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
