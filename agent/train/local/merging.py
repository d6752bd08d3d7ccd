"""Base model and adapter as one model: W + (alpha / rank) B A in every adapted layer, checked by its logits."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import GenerationConfig

from agent.child import LocalPhase, LocalProgress, Merged, MergeRequest
from agent.errors import TaskFailed
from agent.train.base.adapter_files import load_adapter
from agent.train.base.files import BaseFiles
from agent.train.base.model import Base
from agent.train.base.source import Reporter, companion_files
from shared.wire.leases import FailureKind, Phase, Progress

TOLERANCE = 1e-4
"""Largest difference of logits in float32 that rounding explains, as a share of the largest logit (of 1 where all are
smaller): an absolute bound would refuse large models for what is rounding."""

_PROBES = (
    "The capital of France is Paris, and the river that runs through it is the Seine.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 40))  # 42",
    "Ein Patient, 67 Jahre, klagt seit 3 Tagen über Fieber (39,2 °C) und Husten. 他今天好多了。",
)
_CPU = torch.device("cpu")


def merge(order: MergeRequest, base: BaseFiles, report: Reporter) -> Merged:
    """Write the merged model into ``order.folder`` and read it again.

    All arithmetic is in float32 on the CPU, over the weights as they were published: a base that was quantised in
    training is not here. A half dtype only rounds the weights that are written. Raises TaskFailed where the model
    cannot be loaded, the adapter does not fit, or logits differ by more than TOLERANCE.
    """
    probes = [torch.tensor([base.tokenizer(text)["input_ids"]]) for text in _PROBES]
    expected, rounded, merge_difference = _write(order, base, probes, report)
    report(LocalProgress(phase=LocalPhase.CHECKING))
    with Base(order.folder, _CPU, torch.float32, remote_code=False).without_adapter() as model:
        found = _logits(model, probes)
    _check("what was written differs, read again, from what was merged", found, rounded)
    file_difference = _difference(found, expected)
    if not math.isfinite(file_difference):
        raise TaskFailed(FailureKind.CRASH, f"the weights do not fit into {order.dtype}: use bfloat16 or float32")
    if order.dtype == "float32":
        _check("the model that was written differs from base and adapter", found, expected)
    return Merged(merge_difference=merge_difference, file_difference=file_difference)


def _write(
    order: MergeRequest, files: BaseFiles, probes: Sequence[Tensor], report: Reporter
) -> tuple[list[Tensor], list[Tensor], float]:
    """Merge and write. The logits of base and adapter, those of the weights as written, and the merge's difference."""
    report(Progress(phase=Phase.LOADING_MODEL))
    base = Base(files.folder, _CPU, torch.float32, remote_code=False)
    with base.adapter(order.adapter.lora, seed=0) as attached:
        load_adapter(attached, order.adapter.weights)
        report(LocalProgress(phase=LocalPhase.MERGING))
        attached.model.eval()
        expected = _logits(attached.model, probes)
        model = attached.model.merge_and_unload()
        merged = _logits(model, probes)
        _check("merging changes what base and adapter compute", merged, expected)
        report(LocalProgress(phase=LocalPhase.WRITING))
        _round(model, getattr(torch, order.dtype))
        try:
            _save(model, files.folder, order.folder)
        except (OSError, SafetensorError) as error:
            raise TaskFailed(FailureKind.CRASH, f"the merged model cannot be written: {error}") from error
        _round(model, torch.float32)
        return expected, _logits(model, probes), _difference(merged, expected)


def _round(model: Any, dtype: torch.dtype) -> None:
    """Turn parameters into *dtype*; buffers, such as those of rotary embeddings, stay exact. Tied ones stay tied."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _save(model: Any, base_folder: Path, folder: Path) -> None:
    """Write weights and configuration; all other files are the base's own, byte for byte."""
    # transformers refuses to write a generation configuration that it warned of when it was read
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.save_pretrained(folder)
    for path in companion_files(base_folder):
        target = folder / path.relative_to(base_folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)


def _logits(model: Any, probes: Sequence[Tensor]) -> list[Tensor]:
    """Of each probe, (1, tokens, vocabulary)."""
    with torch.inference_mode():
        return [model(input_ids=tokens).logits for tokens in probes]


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


def _check(what: str, found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    difference = _difference(found, expected)
    largest = max(1.0, *(float(logits.abs().max()) for logits in expected))
    if not difference <= TOLERANCE * largest:  # a NaN is no small number
        message = (
            f"{what}: logits differ by up to {difference:.3g}, and the largest is {largest:.3g}; nothing was written"
        )
        raise TaskFailed(FailureKind.CRASH, message)
