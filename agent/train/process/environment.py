"""The child's environment: what libraries may do, and the GPU that they see. It is set before they are imported."""

import os
import sys

from agent.data.files.tables import NO_REPORTS

GUARDS = {
    **NO_REPORTS,  # TRL's trainers report to the hub in their constructors
    "USE_HUB_KERNELS": "NO",  # compiled code from the hub is remote code
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",  # unused here, but bitsandbytes would load the compiler: two seconds per start
}
"""Environment variables of the child."""


def guard_environment() -> None:
    """Set the environment. It must be called before torch and the hub's client are imported."""
    os.environ.update(GUARDS)
    sys.modules["kernels"] = None  # type: ignore[assignment]  # with it bitsandbytes downloads code without asking
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # busy-waiting threads of two agents slow each other tenfold


def allow_hub_kernels() -> None:
    """Let libraries fetch kernels from the hub, as the owner's settings say. Called before torch is imported."""
    os.environ.pop("USE_HUB_KERNELS", None)
    sys.modules.pop("kernels", None)


def gpus_from(device: str) -> list[str]:
    """The names of the GPUs that CUDA sees from that of *device* on, which is as in the settings.

    It must be called before one is chosen.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda"):
        return []
    visible = _visible()
    if not visible and "CUDA_VISIBLE_DEVICES" not in os.environ:
        import torch

        visible = [str(index) for index in range(torch.cuda.device_count())]  # by NVML, so CUDA stays uninitialised
    return visible[int(number or 0) :]


def choose_gpu(device: str) -> None:
    """Make only one GPU visible to CUDA, because TRL refuses to train in a process that sees several.

    device: as in the settings. ``cuda:1`` is the second GPU that was visible; no number means the first.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda"):
        return
    index = int(number or 0)
    visible = _visible()
    if visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[index] if index < len(visible) else ""
    elif "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(index)


def _visible() -> list[str]:
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
