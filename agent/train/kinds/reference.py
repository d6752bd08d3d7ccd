"""What preferences are held to: the log-probabilities of a reference that no round moves, found once and kept.

The reference is the base model alone, or with global adapter 0 on it. Its numbers for a row follow from the row, the
base and that adapter alone, so every round takes them from a file, and finds only those that no round before needed.
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

_FORMAT = "1"  # raise it when the same inputs give other numbers


def completions_at_once(base: Base, micro_batch: int) -> int:
    """How many sides go through the model together. On a CPU one: a side's bits then do not depend on which others it
    came with, a model that has not moved has a margin of exactly 0, and nothing is padded."""
    return 1 if base.device.type == "cpu" else micro_batch


class Reference:
    """One reference, with its files in *folder*. adapter: global adapter 0, or None for the base alone."""

    def __init__(
        self, folder: Path, section: BaseSection, fingerprint: Fingerprint, adapter: Path | None, lora: LoraSection
    ) -> None:
        self._folder, self._adapter, self._lora = folder, adapter, lora
        initial = [sha256_file(adapter), str(lora.alpha / lora.rank)] if adapter is not None else ["", ""]
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
        """Σ log p over the supervised tokens of each pair's chosen and rejected side, in nats, (len(indices), 2).

        report: called with the sides done and how many there are, where some are not known yet.
        """
        path = self._folder / f"reference-{self._key(base, pairs)}.npz"
        known = _load(path, len(pairs))
        missing = np.unique(indices)[np.isnan(known[np.unique(indices)]).any(axis=1)]
        if len(missing):
            completions = pairs.completions.take(np.stack([2 * missing, 2 * missing + 1], axis=1).ravel())
            total = len(completions)
            report(0, total)
            with self._attached(base) as (model, language_model):
                found = log_probabilities(
                    model,
                    language_model,
                    completions,
                    micro_batch=completions_at_once(base, micro_batch),
                    half=base.half,
                    report=lambda done: report(done, total),
                )
            known[missing] = found.reshape(-1, 2)
            _save(path, known)
        return known[indices]

    @contextmanager
    def _attached(self, base: Base) -> Iterator[tuple[Any, Any]]:
        """What to call, and the language model in it."""
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
    """What is known, (n_pairs, 2), NaN elsewhere."""
    nothing = np.full((n_pairs, 2), np.nan)
    try:
        with np.load(path, allow_pickle=False) as file:
            found: NDArray[np.float64] = file["log_probs"]
    except FileNotFoundError:
        return nothing
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        log.warning("%s cannot be read; the reference is scored again", path.name)
        return nothing
    return found if found.shape == nothing.shape and found.dtype == nothing.dtype else nothing


def _save(path: Path, known: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, log_probs=known)
