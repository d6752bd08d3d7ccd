"""Verdicts on base models that can be trained, kept in the cache folder: a measurement costs seconds, once for each."""

import logging
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import torch
from pydantic import ValidationError

from agent import __version__
from agent.train.base.model import Base
from agent.train.data.tokens import TokenRows
from agent.train.progress import Reporter
from agent.train.suitability.measure import Measured, measure
from agent.train.suitability.probe import longest_probe
from agent.train.trainer.head import mark_own_head
from agent.train.trainer.packing import mark_joining
from shared.campaign.spec import LoraSection, Quantization
from shared.digest import sha256_of_parts
from shared.system.durable import atomic_text
from shared.wire.tasks.leases import Phase, Progress
from shared.wire.tasks.results import Fingerprint

log = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "peft", "trl")


class Verdict(Measured):
    """What was measured of a base model that can be trained.

    longest: tokens of the longest row that it was measured with.
    """

    longest: int


def ensure_suitable(
    base: Base,
    fingerprint: Fingerprint,
    lora: LoraSection | None,
    rows: TokenRows,
    *,
    use: Sequence[str],
    quantization: Quantization | None,
    micro_batch: int,
    cache: Path,
    report: Reporter,
    trial: Callable[[], None] | None = None,
) -> Verdict:
    """Give *base* the head that its loss needs, measured now if no verdict is kept.

    Raises TaskFailed (base-model) if the base cannot be trained. A refusal is not kept: it may be due to the rows, or
    to what is installed.

    Args:
        base: the loaded base model.
        fingerprint: its digests.
        lora: the adapter that is trained on it; None for the bare model.
        rows: rows of the owner's data, to measure with.
        use: what else the verdict is for: the template, and what *trial* tries.
        quantization: how the base is quantised.
        micro_batch: the most rows that go through the model at once.
        cache: the folder where verdicts are kept.
        report: told if a measurement starts.
        trial: trains the base for one step. Raises TaskFailed.
    """
    parts = [*fingerprint.model_dump().values(), *use, quantization or "", base.device.type, str(base.dtype)]
    parts.append(
        lora.model_dump_json(include={"target_modules", "freeze_a", "rank", "dropout"}) if lora is not None else ""
    )
    key = sha256_of_parts([*parts, *versions(quantization)])
    path = cache / f"suitability-{key}.json"
    longest = longest_probe(rows)
    if (kept := load_verdict(path)) is not None and kept.longest >= longest:
        _mark(base, kept)
        return kept
    report(Progress(phase=Phase.CHECKING_MODEL))
    exact = base.dtype == torch.float32 and quantization is None
    measured = measure(base, lora, rows, micro_batch=micro_batch, exact=exact)
    verdict = Verdict(**dict(measured), longest=longest)
    _mark(base, verdict)
    if trial is not None:
        trial()
    save_verdict(path, verdict)
    return verdict


def versions(quantization: Quantization | None) -> list[str]:
    """The versions of all that computes a loss."""
    libraries = (*_LIBRARIES, *(["bitsandbytes"] if quantization is not None else []))
    return [__version__, *map(metadata.version, libraries)]


def _mark(base: Base, verdict: Verdict) -> None:
    mark_own_head(base.language_model, needed=verdict.own_head)
    mark_joining(base.language_model, joins=verdict.padded_because is None, shares=verdict.shares, draws=verdict.draws)
    if verdict.padded_because is not None:
        log.info("rows are padded, which takes longer than joining them: %s", verdict.padded_because)


def load_verdict(path: Path) -> Verdict | None:
    """The verdict that is kept in a file; None if there is none that can be read."""
    try:
        return Verdict.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        log.warning("%s cannot be read; measuring the base model again", path.name)
        return None


def save_verdict(path: Path, verdict: Verdict) -> None:
    """Keep the verdict. Without it the next job measures again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_text(path, verdict.model_dump_json())
    except OSError as error:
        log.warning("the verdict on the base model cannot be kept (%s)", error.strerror)
