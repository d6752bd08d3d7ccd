"""The device to train on, and the precision of the frozen weights."""

import contextlib
from typing import Any

import torch

from agent.configuration.processor import cpu_dtype
from agent.configuration.settings import ComputeSettings
from agent.policy.precision import precision_refusals
from agent.policy.refusals import refuse
from agent.train.base.quantization import check_support
from agent.train.base.refusals import unusable
from shared.campaign.spec import BaseSection, CpuDtype, Quantization


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


def decide_cpu_dtype(compute: ComputeSettings, device: torch.device, base: BaseSection) -> CpuDtype | None:
    """Return the precision of the frozen weights on a CPU; None if *device* is another one.

    Raises TaskFailed: base-model for float16 without a GPU, refused-by-policy if the settings contradict the campaign.
    """
    if compute.dtype == "float16" and device.type != "cuda":
        raise unusable("compute.dtype in agent.toml is float16, which trains on a GPU only: use float32 or bfloat16")
    if device.type != "cpu":
        return None
    refuse(precision_refusals(compute, base.cpu_dtype))
    return cpu_dtype(base.cpu_dtype, compute)


def choose_dtype(compute: ComputeSettings, device: torch.device, base: BaseSection) -> torch.dtype:
    """Return the dtype of the frozen weights: on a CPU the campaign's, on another device the owner's.

    Raises TaskFailed, as ``decide_cpu_dtype``.
    """
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if (decided := decide_cpu_dtype(compute, device, base)) is not None:
        return dtypes[decided]
    if compute.dtype == "auto":
        supports_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if supports_bf16 else torch.float32
    return dtypes[compute.dtype]


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """The context in which a base computes. dtype: the base's if it is bfloat16 or float16, else None."""
    return torch.autocast(device.type, dtype=dtype) if dtype is not None else contextlib.nullcontext()
