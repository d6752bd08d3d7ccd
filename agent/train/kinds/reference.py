"""The reference of preference training: its log-probabilities, computed once and cached.

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
from agent.train.data.tokens import PairRows
from agent.train.kinds.evaluate import log_probabilities
from shared.campaign import BaseSection, LoraSection
from shared.digest import sha256_file, sha256_of_parts
from shared.durable import atomic_write
from shared.wire.jobs import Fingerprint

log = logging.getLogger(__name__)

_FORMAT = "1"  # raise it if the same inputs give other numbers


def completion_batch_size(base: Base, micro_batch: int) -> int:
    """The number of completions that go through the model together: *micro_batch*, but 1 on a CPU.

    Alone, a completion's log-probability does not depend in any bit on the rest of a batch. So an untrained model has a
    margin of exactly 0, and nothing is padded.
    """
    return 1 if base.device.type == "cpu" else micro_batch


class Reference:
    """One reference and its cache files."""

    def __init__(
        self, folder: Path, section: BaseSection, fingerprint: Fingerprint, adapter: Path | None, lora: LoraSection
    ) -> None:
        """Digest *adapter*; the base is not loaded.

        Args:
            folder: where the cache files are stored.
            section: the campaign's base model.
            fingerprint: the base model's fingerprint, part of the cache key.
            adapter: the file of the adapter that defines π_ref; None means the bare base model.
            lora: the adapter's shape.
        """
        self._folder, self._adapter, self._lora = folder, adapter, lora
        initial = [sha256_file(adapter), str(lora.scale)] if adapter is not None else ["", ""]
        self._parts = [_FORMAT, section.quantization or "", fingerprint.weights, fingerprint.config, *initial]

    def log_probabilities(
        self,
        base: Base,
        pairs: PairRows,
        indices: NDArray[np.int64],
        *,
        micro_batch: int,
        report: Callable[[int, int], None],
    ) -> NDArray[np.float64]:
        """Return Σ log p over the supervised tokens of chosen and rejected completions, in nats, (k, 2).

        Args:
            base: the base model.
            pairs: all n pairs of the data.
            indices: the pairs to score, (k,).
            micro_batch: completions that go through the model at once, on a GPU.
            report: called with the completions done and their total, if some are not cached.
        """
        path = self._folder / f"reference-{self._key(base, pairs)}.npz"
        known = _load(path, len(pairs))  # (n, 2), NaN where unknown
        missing = np.unique(indices)[np.isnan(known[np.unique(indices)]).any(axis=1)]  # (m,)
        if len(missing):
            completions = pairs.completions.take(np.stack([2 * missing, 2 * missing + 1], axis=1).ravel())
            total = len(completions)
            report(0, total)
            with self._model(base) as (model, language_model):
                log_probs = log_probabilities(
                    model,
                    language_model,
                    completions,
                    micro_batch=completion_batch_size(base, micro_batch),
                    autocast_dtype=base.autocast_dtype,
                    report=lambda done: report(done, total),
                )  # (2m,)
            known[missing] = log_probs.reshape(-1, 2)
            _save(path, known)
        return known[indices]

    @contextmanager
    def _model(self, base: Base) -> Iterator[tuple[Any, Any]]:
        """The reference model, and the language model in it."""
        if self._adapter is None:
            with base.without_adapter() as model:
                yield model, model
        else:
            with base.adapter(self._lora, seed=0) as attached:
                load_adapter(attached, self._adapter)
                yield attached.model, base.language_model

    def _key(self, base: Base, pairs: PairRows) -> str:
        return sha256_of_parts([*self._parts, base.device.type, str(base.dtype), pairs.sha256])


def _load(path: Path, n_pairs: int) -> NDArray[np.float64]:
    """The cached log-probabilities, (n_pairs, 2) float64, NaN where unknown."""
    unknown = np.full((n_pairs, 2), np.nan)
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
