"""What a trainer makes of a few rows: log-probabilities, losses, updates; and the file of it."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.adapters.files import Array
from shared.system.durable import atomic_write

_UPDATES = ("plain", "corrected")


@dataclass(frozen=True)
class Results:
    """What a trainer computed.

    Attributes:
        log_probs: of n probing rows, in nats, (n,).
        losses: one a step of a plain training, in the kind's unit.
        plain: the update of that training, some values of each tensor.
        corrected: the update of a training with ``TrialClient``.
        notices: what the operator should know of the base model.
    """

    log_probs: NDArray[np.float64]
    losses: NDArray[np.float64]
    plain: Mapping[str, Array]
    corrected: Mapping[str, Array]
    notices: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write a file, atomically. Raises OSError."""
        updates = {f"{part}/{name}": each for part in _UPDATES for name, each in getattr(self, part).items()}
        with atomic_write(path) as file:
            np.savez(
                file,
                allow_pickle=False,
                log_probs=self.log_probs,
                losses=self.losses,
                notices=np.array(self.notices, dtype=np.str_),
                **updates,
            )

    @classmethod
    def load(cls, path: Path) -> "Results | None":
        """Read a file that ``save`` wrote. Returns None if there is none that can be read."""
        updates: dict[str, dict[str, Array]] = {part: {} for part in _UPDATES}
        try:
            with np.load(path, allow_pickle=False) as file:
                for key in file.files:
                    part, separator, name = key.partition("/")
                    if separator:
                        updates[part][name] = file[key]
                return cls(file["log_probs"], file["losses"], **updates, notices=tuple(file["notices"].tolist()))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
