"""An adapter on a base model: its parameters, by the names that adapter files use."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model_state_dict
from torch import Tensor, nn

from agent.errors import TaskFailed
from agent.train.base.factors import difference, factors_of
from agent.train.base.loading import PLAIN, Loader
from agent.train.base.refusals import unusable
from agent.train.base.targets import choose_targets
from shared.adapters.files import AdapterError, Contract, TensorSpec
from shared.adapters.initial import initial_tensors
from shared.adapters.lora import is_trained, shape_at_rank
from shared.campaign.spec import LoraSection


@dataclass(frozen=True)
class AttachedAdapter:
    """A PEFT model, and its adapter's parameters by the names that adapter files use.

    notices: what of the base model stays frozen although one may expect otherwise.

    Of a linear layer (in → out) and rank r, ``….lora_A.weight`` is (r, in) and ``….lora_B.weight`` is (out, r).
    """

    model: Any
    parameters: dict[str, nn.Parameter]
    rank: int
    notices: tuple[str, ...] = ()

    @property
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are not frozen."""
        return {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}

    @property
    def contract(self) -> Contract:
        """Names and shapes of the adapter's tensors, as float32."""
        return _contract(self.parameters)

    @property
    def update_contract(self) -> Contract:
        """Names and shapes of an update's tensors: the trained ones, as float32."""
        return _contract(self.trained_parameters)

    def draw(self, seed: int) -> None:
        """Give the adapter the values that it has before training, those of adapter 0 of this seed."""
        for name, values in initial_tensors(self.contract, seed):
            self.parameters[name].data.copy_(torch.from_numpy(values))

    def tensors(self) -> dict[str, Tensor]:
        """The adapter's current values, copied to the CPU as float32."""
        return {name: parameter.detach().float().cpu().clone() for name, parameter in self.parameters.items()}

    @contextmanager
    def keep_float32(self) -> Iterator[None]:
        """Restore the adapter's float32 values at the end of the block, in which a library may round them."""
        before = {name: parameter.data for name, parameter in self.parameters.items()}
        yield
        for name, parameter in self.parameters.items():
            parameter.data = before[name]


def attach(model: Any, lora: LoraSection, loader: Loader = PLAIN) -> AttachedAdapter:
    """Attach an adapter to the bare *model*. Raises TaskFailed (base-model, trainer).

    Its values are NaN until they are drawn or loaded.
    """
    targets = choose_targets(model, lora)
    expected = factors_of(model, targets.names, lora.rank)
    adapted = loader.attach(model, lora, targets.names)
    try:
        parameters = _adapter_parameters(adapted, lora.rank)
        if (problem := difference(parameters, expected)) is not None:
            raise loader.refused(f"the adapter is not the campaign's: {problem}")
    except TaskFailed:
        loader.detach(adapted)
        raise
    for name, parameter in parameters.items():
        parameter.data.fill_(math.nan)
        parameter.requires_grad_(is_trained(name, lora))
    return AttachedAdapter(adapted, parameters, lora.rank, targets.notices)


def _contract(parameters: Mapping[str, nn.Parameter]) -> Contract:
    return Contract.of({name: TensorSpec("F32", tuple(parameter.shape)) for name, parameter in parameters.items()})


def _adapter_parameters(model: Any, rank: int) -> dict[str, nn.Parameter]:
    """The trainable parameters by their names in ``adapter_model.safetensors``, sorted."""
    named = {
        name.replace(".default.", ".").removesuffix(".default"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    if set(named) != set(saved):
        mismatch = min(set(named) ^ set(saved))
        raise unusable(f"PEFT saves this model's adapter under other names than it trains, {mismatch} among them")
    for name, parameter in named.items():
        _check_shape(name, tuple(parameter.shape), rank)
    return dict(sorted(named.items()))


def _check_shape(name: str, shape: tuple[int, ...], rank: int) -> None:
    """Raise TaskFailed (base-model) if a tensor is not a factor of this rank: nothing else can be aggregated."""
    try:
        fits = shape_at_rank(name, shape, rank) == shape
    except AdapterError:
        fits = False
    if not fits:
        message = f"PEFT gives {name} of this base model the shape {list(shape)}, which is not a factor of rank {rank}"
        raise unusable(f"{message}; name other target_modules in the campaign")
