"""Merges base model and adapter into one model, and checks its logits.

Every adapted layer W, (out, in), becomes W + (alpha / rank) B A, with B (out, rank) and A (rank, in).
"""

import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import GenerationConfig

from agent.errors import TaskFailed
from agent.orders.on_base.merge import Merged, MergeRequest
from agent.orders.protocol import LocalPhase, LocalProgress
from agent.train.base.adapter_files import load_adapter
from agent.train.base.model import Base
from agent.train.base.on_disk.finder import BaseFiles
from agent.train.base.on_disk.folder import companion_files
from agent.train.local.model import find_model
from agent.train.order_context import OrderContext
from agent.train.progress import Reporter
from shared.wire.tasks.leases import FailureKind, Phase, Progress

TOLERANCE = 1e-4
"""The largest difference of float32 logits that rounding explains, relative to the largest logit, or to 1 if all are
smaller. An absolute bound would reject large models because of rounding."""

_PROBES = (
    "The capital of France is Paris, and the river that runs through it is the Seine.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 40))  # 42",
    "Ein Patient, 67 Jahre, klagt seit 3 Tagen über Fieber (39,2 °C) und Husten. 他今天好多了。",
)
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""Files by which a model of several modalities reads what is not text. Training on text needs none of them."""
_CPU = torch.device("cpu")


def merge(order: MergeRequest, context: OrderContext) -> Merged:
    """Write the merged model into ``order.folder``, read it back and check it.

    All arithmetic is in float32 on the CPU, with the published weights, even if training quantised the base. A half
    dtype only rounds the weights that are written. Raises TaskFailed if the model cannot be loaded or written, the
    adapter does not fit, or logits differ by more than TOLERANCE.
    """
    context.warm.models.release()  # memory is needed for two models: the merged one, and the one that is read back
    files = find_model(order, context)
    probes = _probes(files)
    expected, rounded, merge_difference = _write(order, files, probes, context.report)
    context.report(LocalProgress(phase=LocalPhase.CHECKING))
    with Base(order.folder, _CPU, torch.float32, remote_code=False).without_adapter() as model:
        reloaded = _logits(model, probes)
    _check("the written model, read back, differs from the merged one", reloaded, rounded)
    file_difference = _difference(reloaded, expected)
    if not math.isfinite(file_difference):
        raise TaskFailed(FailureKind.CRASH, f"the weights exceed the range of {order.dtype}: use bfloat16 or float32")
    if order.dtype == "float32":
        _check("the written model differs from base and adapter", reloaded, expected)
    return Merged(merge_difference=merge_difference, file_difference=file_difference)


def _probes(files: BaseFiles) -> list[Tensor]:
    """Token ids that the base model takes, (1, tokens) each."""
    limits = files.limits
    tokens = [files.tokenizer(text)["input_ids"][: limits.n_positions] for text in _PROBES]
    known = [[token for token in text if token < (limits.n_embeddings or sys.maxsize)] for text in tokens]
    return [torch.tensor([text]) for text in known if text]


def _write(
    order: MergeRequest, files: BaseFiles, probes: Sequence[Tensor], report: Reporter
) -> tuple[list[Tensor], list[Tensor], float]:
    """Merge and write. Returns the logits of base and adapter, the logits of the weights as written, and the largest
    difference of logits that merging causes in float32."""
    report(Progress(phase=Phase.LOADING_MODEL))
    base = Base(files.folder, _CPU, torch.float32, remote_code=False)
    with base.adapter(order.adapter.lora, seed=0) as attached:
        load_adapter(attached, order.adapter.weights)
        report(LocalProgress(phase=LocalPhase.MERGING))
        attached.model.eval()
        expected = _logits(attached.model, probes)
        model = attached.model.merge_and_unload()
        merged = _logits(model, probes)
        _check("merging changes the logits of base and adapter", merged, expected)
        report(LocalProgress(phase=LocalPhase.WRITING))
        _round(model, getattr(torch, order.dtype))
        try:
            _save(model, files.folder, order.folder)
        except (OSError, SafetensorError) as error:
            raise TaskFailed(FailureKind.CRASH, f"the merged model cannot be written: {error}") from error
        _round(model, torch.float32)
        return expected, _logits(model, probes), _difference(merged, expected)


def _round(model: Any, dtype: torch.dtype) -> None:
    """Convert the parameters to *dtype*. Tied ones stay tied; buffers, such as rotary embeddings', stay exact."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _save(model: Any, base_folder: Path, folder: Path) -> None:
    """Write weights and configuration; copy all other files from the base, byte for byte."""
    # transformers refuses to write a generation configuration that it warned about when reading it
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.save_pretrained(folder)
    processors = [path for name in _PROCESSOR_FILES if (path := base_folder / name).is_file()]
    for path in (*companion_files(base_folder), *processors):
        target = folder / path.relative_to(base_folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)


def _logits(model: Any, probes: Sequence[Tensor]) -> list[Tensor]:
    """The logits of each probe, (1, tokens, vocabulary)."""
    with torch.inference_mode():
        return [model(input_ids=tokens, use_cache=False).logits for tokens in probes]


def _difference(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(actual, expected, strict=True))


def _check(problem: str, actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    difference = _difference(actual, expected)
    largest = max(1.0, *(float(logits.abs().max()) for logits in expected))
    if not difference <= TOLERANCE * largest:  # also true for NaN
        message = (
            f"{problem}: logits differ by up to {difference:.3g}, and the largest is {largest:.3g}; nothing was written"
        )
        raise TaskFailed(FailureKind.CRASH, message)
