"""Bases whose frozen weights are held in fewer bits, by bitsandbytes: the linear layers, without the head.

What PEFT's ``prepare_model_for_kbit_training`` does besides is done already or not wanted: a base is frozen when it is
loaded, gradients are not checkpointed, and what is not quantised has the agent's dtype, as over any other base. Norms
compute in float32 whatever their weights are.
"""

import importlib.util
import platform
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from agent.errors import TaskFailed
from shared.campaign import Quantization
from shared.wire.leases import FailureKind

_DEVICES = ("cpu", "cuda")
_BLOCK = 64
"""Weights that share a scale in nf4."""


def check(quantization: Quantization, device: torch.device) -> None:
    """Raises TaskFailed (base-model) where no base can be held so on *device*."""
    if device.type not in _DEVICES:
        raise _unusable(
            f"the campaign's base is held in {quantization}, which trains on a CPU or a CUDA GPU only: set "
            'compute.device = "cpu" in agent.toml'
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        message = f"the campaign's base is held in {quantization} by bitsandbytes, which is not installed here"
        raise _unusable(f"{message}: pip install 'fedloom[agent]'")
    plain = platform.machine() in ("x86_64", "AMD64") and torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    if device.type == "cpu" and plain:
        raise _unusable(f"the campaign's base is held in {quantization}, which needs a CPU with AVX2, or a CUDA GPU")


def configuration(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """How transformers is to load the weights. dtype: what products are computed in."""
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    # as QLoRA has it (Dettmers et al. 2023, section 3): the blocks' scales are quantised too, which saves 0.37 bits a
    # weight
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def settle(model: Any, device: torch.device) -> None:
    """Make a quantised model one that can be trained. Raises TaskFailed (base-model) where it cannot.

    Its quantised layers stay in training mode, whatever mode the model is put into. In evaluation mode bitsandbytes
    computes other things on a CPU: int8 rounds the activations too, so that held-out losses and references would be of
    another model than the one that is trained; nf4 repacks the weights where the CPU has AVX512-BF16, and no gradient
    goes through them from then on.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt  # not everybody has it

    for name, module in model.named_modules():
        if isinstance(module, (Linear4bit, Linear8bitLt)):
            _stay_in_training(module)
        # where blocks go over the ends of rows, 0.50's AVX512 kernel takes the wrong blocks' scales, and says nothing
        if isinstance(module, Linear4bit) and device.type == "cpu" and module.in_features % _BLOCK:
            raise _unusable(
                f"nf4 on a CPU needs layers whose inputs are a multiple of {_BLOCK}, and {name} has "
                f"{module.in_features}: use int8, or a CUDA GPU"
            )


def _stay_in_training(module: Any) -> None:
    module.train()
    module.train = lambda _mode=True: module


def _unusable(message: str) -> TaskFailed:
    return TaskFailed(FailureKind.BASE_MODEL, message)
