"""Verdicts on base models, kept in the cache folder: a measurement costs seconds, once for each base and template."""

import logging
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from pydantic import ValidationError

from agent import __version__
from agent.errors import TaskFailed
from agent.train.base.model import Base
from agent.train.data.tokens import TokenRows
from agent.train.progress import Reporter
from agent.train.suitability.measure import Verdict, measure
from agent.train.trainer.head import mark_own_head
from shared.campaign.spec import LoraSection, Quantization
from shared.digest import sha256_of_parts
from shared.durable import atomic_text
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind, Phase, Progress

log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "peft", "trl")


def suit(
    base: Base,
    fingerprint: Fingerprint,
    lora: LoraSection | None,
    rows: TokenRows,
    *,
    template: str,
    kind: str,
    quantization: Quantization | None,
    cache: Path,
    report: Reporter,
    trial: Callable[[Base], str] | None = None,
) -> Verdict:
    """Give *base* the head that its loss needs, measured now if no verdict is kept. Raises TaskFailed (base-model).

    Args:
        base: the loaded base model.
        fingerprint: its digests.
        lora: the adapter that is trained on it; None for the bare model.
        rows: rows of the owner's, to measure with.
        template: what made text of them: its name, or its digest.
        kind: the kind of training that *trial* tries; empty for none.
        quantization: how the base is quantised.
        cache: the folder where verdicts are kept.
        report: told if a measurement starts.
        trial: trains a base for one step, and returns why that fails; empty if it does not.
    """
    parts = [*fingerprint.model_dump().values(), template, kind, quantization or "", base.device.type, str(base.dtype)]
    parts.append(lora.model_dump_json(include={"target_modules"}) if lora is not None else "")
    key = sha256_of_parts([*parts, __version__, *map(metadata.version, _LIBRARIES)])
    path = cache / f"suitability-{key}.json"
    verdict = _load(path)
    if verdict is None:
        report(Progress(phase=Phase.CHECKING_MODEL))
        exact = base.dtype == torch.float32 and quantization is None
        verdict = measure(base, lora, rows, exact=exact)
        mark_own_head(base.language_model, needed=verdict.own_head)
        if trial is not None and not verdict.refusal and (problem := trial(base)):
            raise TaskFailed(FailureKind.BASE_MODEL, f"the base model cannot be trained: {problem}")
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_text(path, verdict.model_dump_json())
    if verdict.refusal:
        raise TaskFailed(FailureKind.BASE_MODEL, verdict.refusal)
    mark_own_head(base.language_model, needed=verdict.own_head)
    return verdict


def _load(path: Path) -> Verdict | None:
    try:
        return Verdict.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        log.warning("%s cannot be read; measuring the base model again", path.name)
        return None
