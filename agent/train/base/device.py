"""What to train on, and in which precision."""

import torch

from agent.errors import TaskFailed
from agent.settings import ComputeSettings
from agent.train.base import quantization as quantizing
from shared.campaign import Quantization
from shared.wire.leases import FailureKind


def _unusable(message: str) -> TaskFailed:
    return TaskFailed(FailureKind.BASE_MODEL, message)


def choose_device(compute: ComputeSettings, quantization: Quantization | None) -> torch.device:
    """The device to train on. Raises TaskFailed (base-model) where the settings ask for one that is not there, or that
    cannot hold the base so."""
    device = _device(compute, quantization)
    if quantization is not None:
        quantizing.check(quantization, device)
    return device


def _device(compute: ComputeSettings, quantization: Quantization | None) -> torch.device:
    if compute.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        # nobody has tried quantised bases on mps
        return torch.device("mps" if torch.backends.mps.is_available() and quantization is None else "cpu")
    kind = compute.device.partition(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not there:
        raise _unusable(f"compute.device in agent.toml is {compute.device}, which this machine does not have")
    return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)  # one GPU is visible, see __main__


def choose_dtype(compute: ComputeSettings, device: torch.device) -> torch.dtype:
    """The dtype of the frozen weights. Raises TaskFailed (base-model) for float16 without a GPU."""
    if compute.dtype == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    if compute.dtype == "float16" and device.type != "cuda":
        raise _unusable("compute.dtype in agent.toml is float16, which trains on a GPU only: use float32 or bfloat16")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[compute.dtype]
