"""Quantised bases: bitsandbytes holds the frozen weights of linear layers, except the head, in 8 or 4 bits.

PEFT's ``prepare_model_for_kbit_training`` is not used. A base is already frozen when it is loaded, gradients are not
checkpointed, and layers that are not quantised keep the agent's dtype, as in any other base. Norms compute in float32
whatever the dtype of their weights.
"""

import importlib.util
import platform
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from agent.train.base.refusals import unusable
from shared.campaign.spec import Quantization

_DEVICES = ("cpu", "cuda")
_BLOCK = 64
"""Number of weights that share a scale in nf4."""


def check_support(quantization: Quantization, device: torch.device) -> None:
    """Raise TaskFailed (base-model) if *device* does not support the quantisation."""
    if device.type not in _DEVICES:
        raise unusable(
            f"the campaign quantises its base to {quantization}, which trains on a CPU or a CUDA GPU only: set "
            'compute.device = "cpu" in agent.toml'
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        message = f"the campaign quantises its base to {quantization} with bitsandbytes, which is not installed"
        raise unusable(f"{message}: run pip install 'fedloom[agent]'")
    lacks_avx2 = platform.machine() in ("x86_64", "AMD64") and torch.backends.cpu.get_cpu_capability() == "DEFAULT"
    if device.type == "cpu" and lacks_avx2:
        raise unusable(f"the campaign quantises its base to {quantization}, which needs a CPU with AVX2 or a CUDA GPU")


def bitsandbytes_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """How transformers loads the weights. dtype: the dtype of matrix products under nf4."""
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    # As in QLoRA (Dettmers et al. 2023, section 3): the blocks' scales are quantised too, which saves 0.37 bits per
    # weight.
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def prepare_for_training(model: Any, device: torch.device) -> None:
    """Make a quantised model trainable. Raises TaskFailed (base-model) if *device* cannot train it.

    Its quantised layers stay in training mode, whatever mode the model is in. In evaluation mode bitsandbytes computes
    differently on a CPU. int8 also rounds the activations, so held-out losses and references would belong to another
    model than the trained one. nf4 repacks the weights if the CPU has AVX512-BF16, and from then on no gradient passes
    through them.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt  # an optional dependency

    for name, module in model.named_modules():
        if isinstance(module, (Linear4bit, Linear8bitLt)):
            _pin_training_mode(module)
        # if blocks span the ends of rows, the AVX512 kernel of bitsandbytes 0.50 silently uses the wrong blocks' scales
        if isinstance(module, Linear4bit) and device.type == "cpu" and module.in_features % _BLOCK:
            raise unusable(
                f"nf4 on a CPU needs layers whose inputs are a multiple of {_BLOCK}, and {name} has "
                f"{module.in_features}: use int8, or a CUDA GPU"
            )


def _pin_training_mode(module: Any) -> None:
    module.train()
    module.train = lambda _mode=True: module
