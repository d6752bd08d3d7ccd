"""The reference model of preference training: its log-probabilities, computed once and cached.

The reference is the bare base model, or the base model with global adapter 0, and no round changes it. Its
log-probability of a row depends only on the row, the base and that adapter. So each round reads the values from a file,
and computes only those that no earlier round needed.
"""

import logging
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.train.base.adapter_files import load_adapter
from agent.train.base.model import Base
from agent.train.data.tokens import Samples
from agent.train.stack.base import Stack
from agent.train.trainer.scoring import Scoring
from shared.campaign.spec import BaseSection, LoraSection
from shared.digest import sha256_file, sha256_of_parts
from shared.system.durable import atomic_write
from shared.wire.tasks.results import Fingerprint

log = logging.getLogger(__name__)

_FORMAT = "2"  # raise it if the same inputs give other numbers


def rows_scored_together(base: Base, micro_batch: int) -> int:
    """The number of rows whose completions are scored together: *micro_batch*, but 1 on a CPU.

    With its own row alone, a completion's log-probability does not depend in any bit on the rest of a batch. So an
    untrained model has a margin of exactly 0. What the completions begin with is computed once.
    """
    return 1 if base.device.type == "cpu" else micro_batch


class Reference:
    """One reference and its cache files."""

    def __init__(
        self,
        folder: Path,
        section: BaseSection,
        fingerprint: Fingerprint,
        adapter: Path | None,
        lora: LoraSection,
        stack: Stack,
    ) -> None:
        """Digest *adapter*; the base is not loaded.

        Args:
            folder: where the cache files are stored.
            section: the campaign's base model.
            fingerprint: the base model's fingerprint, part of the cache key.
            adapter: the file of the adapter that defines π_ref; None means the bare base model.
            lora: the adapter's shape.
            stack: scores.
        """
        self._folder, self._adapter, self._lora, self._stack = folder, adapter, lora, stack
        initial = [sha256_file(adapter), str(lora.scale)] if adapter is not None else ["", ""]
        self._parts = [_FORMAT, section.quantization or "", fingerprint.weights, fingerprint.config, *initial]
        self._parts.append(stack.identity)

    def log_probabilities(
        self,
        base: Base,
        samples: Samples,
        indices: NDArray[np.int64],
        *,
        micro_batch: int,
        report: Callable[[int, int], None],
    ) -> NDArray[np.float64]:
        """Return Σ log p over the supervised tokens of each of the rows' c completions, in nats, (k, c).

        Args:
            base: the base model.
            samples: all n rows of the data.
            indices: the rows to score, (k,).
            micro_batch: rows whose completions go through the model at once, on a GPU.
            report: called with the completions done and their total, if some are not cached.
        """
        path = self._folder / f"reference-{self._key(base, samples)}.npz"
        known = _load(path, (len(samples), samples.n_completions))  # (n, c), NaN where unknown
        missing = np.unique(indices)[np.isnan(known[np.unique(indices)]).any(axis=1)]  # (m,)
        if len(missing):
            completions = samples.completions.take(samples.completions_of(missing).ravel())
            total = len(completions)
            report(0, total)
            with self._model(base) as model:
                scoring = Scoring(
                    rows_scored_together(base, micro_batch) * samples.n_completions,
                    base.autocast_dtype,
                    lambda done: report(done, total),
                    together=samples.n_completions,
                )
                log_probs = self._stack.evaluate(model, completions, scoring)  # (c m,)
            known[missing] = log_probs.reshape(len(missing), -1)
            _save(path, known)
        return known[indices]

    @contextmanager
    def _model(self, base: Base) -> Iterator[Any]:
        """The reference model: the bare one, or a PEFT model."""
        if self._adapter is None:
            with base.without_adapter() as model:
                yield model
        else:
            with base.adapter(self._lora, seed=0) as attached:
                load_adapter(attached, self._adapter)
                yield attached.model

    def _key(self, base: Base, samples: Samples) -> str:
        return sha256_of_parts([*self._parts, base.device.type, str(base.dtype), samples.completions.sha256])


@contextmanager
def without_reference_adapter(model: Any, tokenizer: Any) -> Iterator[None]:
    """Undo what TRL's preference trainers do to a PEFT model and its tokenizer while they are built.

    They copy the adapter to a second one, as their reference; but the reference is the same in every round, and the
    adapter is not. And they set a padding token if the tokenizer has none.
    """
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    pad_token = tokenizer.pad_token
    try:
        yield
    finally:
        tokenizer.pad_token = pad_token
    model.delete_adapter("ref")
    for parameter in frozen:  # PEFT makes all parameters of an adapter trainable when it activates one
        parameter.requires_grad_(False)


def _load(path: Path, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The cached log-probabilities, float64 of this shape, NaN where unknown."""
    unknown = np.full(shape, np.nan)
    try:
        with np.load(path, allow_pickle=False) as file:
            cached: NDArray[np.float64] = file["log_probs"]
    except FileNotFoundError:
        return unknown
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        log.warning("%s cannot be read; computing the reference's log-probabilities again", path.name)
        return unknown
    return cached if cached.shape == unknown.shape and cached.dtype == unknown.dtype else unknown


def _save(path: Path, known: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, log_probs=known)
