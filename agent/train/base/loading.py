"""How a base model gets into memory, and an adapter onto it: by transformers and PEFT, unless a trainer does it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoModelForCausalLM

from agent.errors import TaskFailed
from agent.train.base.fused_lora import fuse
from agent.train.base.on_disk.folder import unused_tensors
from agent.train.base.quantization import bitsandbytes_config, prepare_for_training
from agent.train.base.refusals import unusable
from agent.train.process import memory
from shared.campaign.spec import LoraSection, Quantization

_NOT_QUANTIZED = (
    "the base model cannot be quantised here: too little memory, or a GPU that bitsandbytes does not support; see the "
    "agent's log"
)


@dataclass(frozen=True)
class ModelSource:
    """A base model on the disk, whose files were checked, and how it is loaded.

    Attributes:
        folder: the model's files.
        device: where the weights are held.
        dtype: the dtype of weights that are not quantised, and of all matrix products.
        quantization: how the linear layers' weights are quantised, or None.
        remote_code: whether code that comes with the model may run.
    """

    folder: Path
    device: torch.device
    dtype: torch.dtype
    quantization: Quantization | None
    remote_code: bool


class Loader(ABC):
    """Loads a base model, and attaches adapters to it."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What tells this loader, in its version, from others."""

    @abstractmethod
    def load(self, source: ModelSource) -> Any:
        """Return the language model with all its weights, as transformers has it, on the device."""

    @abstractmethod
    def attach(self, model: Any, lora: LoraSection, targets: Sequence[str]) -> Any:
        """Attach a LoRA adapter to *model*, and return the model with it, as PEFT has it.

        The adapter's parameters are float32 and alone need gradients; their values are given later. Its other settings
        are those of *lora*: rank, alpha, dropout.

        Args:
            model: what ``load`` returned, frozen.
            lora: the campaign's section.
            targets: the linear modules that get an adapter, by their whole names in *model*.
        """

    def detach(self, model: Any) -> None:
        """Remove the adapter, so that another can be attached. model: what ``attach`` returned."""
        model.unload()

    def refused(self, message: str) -> TaskFailed:
        """The failure if what this loader made cannot be used. message: why."""
        return unusable(message)


class PlainLoader(Loader):
    """transformers and PEFT."""

    @property
    def identity(self) -> str:
        return ""

    def load(self, source: ModelSource) -> Any:
        """Load the model. Raises TaskFailed (base-model)."""
        quantizing: dict[str, Any] = {}
        if source.quantization is not None:
            # bitsandbytes quantises weights while they are loaded, and such a model must not be moved afterwards
            quantizing["quantization_config"] = bitsandbytes_config(source.quantization, source.dtype)
            quantizing["device_map"] = {"": str(source.device)}
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                source.folder,
                dtype=source.dtype,
                use_safetensors=True,
                trust_remote_code=source.remote_code,
                local_files_only=True,
                output_loading_info=True,
                **quantizing,
            )
        except Exception as error:  # damaged files, and code that comes with the model, raise errors of many types
            if memory.is_exhausted(error):
                raise
            if source.quantization is not None and isinstance(error, RuntimeError):
                raise unusable(_NOT_QUANTIZED) from error  # transformers puts the cause into its log only
            raise unusable("the base model cannot be loaded", error) from error
        if missing := sorted(info["missing_keys"]):
            # transformers would draw them at random, so every agent would have a different base
            raise unusable(f"the weight files lack {len(missing)} of the model's tensors, {missing[0]} among them")
        if unused := unused_tensors(source.folder, info["unexpected_keys"]):
            message = (
                f"the weight files hold {len(unused)} tensors that the model as configured does not have, {unused[0]} "
                "among them: correct config.json, or save the model anew"
            )
            raise unusable(message)
        model.requires_grad_(False).eval()
        if source.quantization is None:
            model.to(source.device)
        else:
            prepare_for_training(model, source.device)
        return model

    def attach(self, model: Any, lora: LoraSection, targets: Sequence[str]) -> Any:
        """Attach an adapter. Raises TaskFailed (base-model).

        PyTorch and PEFT draw no numbers for it: they make its layers without memory.
        """
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(targets),
            task_type="CAUSAL_LM",
            bias="none",
            init_lora_weights=False,
        )
        device = model.device
        try:
            peft_model = get_peft_model(model, config, low_cpu_mem_usage=True)
            _give_memory(peft_model, device)
        except Exception as error:  # midway: the layers before are adapted
            _remove_layers(model)
            if memory.is_exhausted(error):
                raise
            leaves = ", ".join(sorted({name.rpartition(".")[2] for name in targets}))
            remedy = f"set lora.target_modules in the campaign to some of {leaves}"
            raise unusable(f"PEFT cannot adapt this base model; {remedy}", error) from error
        fuse(peft_model)
        return peft_model


PLAIN = PlainLoader()


def _give_memory(model: Any, device: torch.device) -> None:
    """Put the parameters of the adapter, the trainable ones, on *device*: as float32 and NaN."""
    for name, parameter in list(model.named_parameters()):
        if parameter.requires_grad:
            owner, _, leaf = name.rpartition(".")
            values = torch.full(parameter.shape, math.nan, dtype=torch.float32, device=device)
            setattr(model.get_submodule(owner), leaf, nn.Parameter(values))


def _remove_layers(model: Any) -> None:
    """Put the layers of the base model back, all of those that PEFT has wrapped."""
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.get_base_layer())
