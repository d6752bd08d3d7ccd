"""The device to train on, and the precision of the frozen weights."""

import contextlib
from typing import Any

import torch

from agent.configuration.settings import ComputeSettings
from agent.train.base.quantization import check_support
from agent.train.base.refusals import unusable
from shared.campaign.spec import Quantization


def choose_device(compute: ComputeSettings, quantization: Quantization | None) -> torch.device:
    """Return the device to train on.

    Raises TaskFailed (base-model) if the settings name a device that this machine lacks, or one that does not support
    the quantisation.
    """
    device = _device(compute, quantization)
    if quantization is not None:
        check_support(quantization, device)
    return device


def _device(compute: ComputeSettings, quantization: Quantization | None) -> torch.device:
    if compute.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        # quantised bases are untested on mps
        return torch.device("mps" if torch.backends.mps.is_available() and quantization is None else "cpu")
    kind = compute.device.partition(":")[0]
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not available:
        raise unusable(f"compute.device in agent.toml is {compute.device}, which this machine does not have")
    return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)  # choose_gpu left one visible


def choose_dtype(compute: ComputeSettings, device: torch.device) -> torch.dtype:
    """Return the dtype of the frozen weights. Raises TaskFailed (base-model) for float16 without a GPU."""
    if compute.dtype == "auto":
        supports_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if supports_bf16 else torch.float32
    if compute.dtype == "float16" and device.type != "cuda":
        raise unusable("compute.dtype in agent.toml is float16, which trains on a GPU only: use float32 or bfloat16")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[compute.dtype]


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """The context in which a base computes. dtype: the base's if it is bfloat16 or float16, else None."""
    return torch.autocast(device.type, dtype=dtype) if dtype is not None else contextlib.nullcontext()
