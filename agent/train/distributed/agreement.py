"""What the ranks of a training must have alike: checked, because a difference would give a wrong update in silence."""

import json
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from agent.errors import TaskFailed
from agent.train.distributed.group import Group
from agent.train.trainer.need import Choice
from shared.digest import sha256_hex, sha256_of_parts
from shared.wire.tasks.leases import FailureKind

_TOLERANCE = 1e-3
"""Relative difference of norms: GPUs of several kinds may round differently."""


def check_start_alike(group: Group, parts: list[str], tensors: Mapping[str, Tensor]) -> None:
    """Raise TaskFailed (crash) unless all ranks begin the same training.

    Args:
        group: the ranks.
        parts: what determines it.
        tensors: the adapter that it starts from, on the CPU.
    """
    if group.size == 1:
        return
    values = [sha256_hex(tensor.numpy().tobytes()) for tensor in tensors.values()]
    if len({*group.gathered(sha256_of_parts([*parts, *values]).encode())}) > 1:
        raise _differ("did not begin the same training")


def check_end_alike(group: Group, moved: Mapping[str, Tensor]) -> None:
    """Raise TaskFailed (crash) unless all ranks end with the same adapter, but for rounding.

    moved: what training changed, by name.
    """
    if group.size == 1:
        return
    norms = torch.stack([tensor.norm() for tensor in moved.values()]).double().cpu()  # (n,)
    for other in group.gathered(json.dumps(norms.tolist()).encode()):
        difference = (torch.tensor(json.loads(other), dtype=torch.float64) - norms).abs().max()
        if not difference <= _TOLERANCE * norms.max():
            raise _differ("ended with different adapters")


def agreed(group: Group, choice: Choice) -> Choice:
    """The choice by which all ranks train: the smallest micro-batch of any, as each has its own free memory."""
    chosen = [json.loads(each) for each in group.gathered(json.dumps([choice.micro_batch, choice.recomputes]).encode())]
    micro_batch = min(each for each, _ in chosen)
    return replace(choice, micro_batch=micro_batch, recomputes=any(each for _, each in chosen))


def _differ(how: str) -> TaskFailed:
    message = f"the processes of the training {how}: set compute.processes in agent.toml to 1, and report this"
    return TaskFailed(FailureKind.CRASH, message)
