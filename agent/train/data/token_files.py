"""Tokenised data as a file, which the cache can read again."""

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from agent.train.data.tokens import Samples, TokenizedData, TokenRows
from shared.kinds import Kind
from shared.system.durable import atomic_write

_ARRAYS = ("ids", "supervised", "offsets")

log = logging.getLogger(__name__)


def save_tokens(path: Path, data: TokenizedData) -> None:
    """Write tokenised data."""
    arrays: dict[str, Any] = {"dropped": np.int64(data.dropped), "notices": np.array(json.dumps(data.notices))}
    for part, rows in (("train", data.train), ("held_out", data.held_out)):
        arrays |= {f"{part}_{name}": getattr(rows.completions, name) for name in _ARRAYS}
        arrays[f"{part}_labels"] = rows.labels
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def load_tokens(path: Path, kind: Kind) -> TokenizedData | None:
    """The data in a cache file. Returns None if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            train, held_out = (
                Samples(
                    TokenRows(*(file[f"{part}_{name}"] for name in _ARRAYS)),
                    len(kind.completions),
                    file[f"{part}_labels"],
                )
                for part in ("train", "held_out")
            )
            return TokenizedData(train, held_out, int(file["dropped"]), tuple(json.loads(str(file["notices"]))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        log.warning("%s cannot be read; tokenising the data again", path.name)
        return None
