"""Error feedback: what rounding takes from an update, its client adds to its next one.

Seide et al. 2014, "1-Bit Stochastic Gradient Descent and its Application to Data-Parallel Distributed Training of
Speech DNNs" (Interspeech), section 3; Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and other Gradient
Compression Schemes" (arXiv 1901.09847), algorithm 1 (EF-SGD), with a client's update of a round in place of −γ g:

    sent       C(Δ + e)              C rounds and decodes
    e⁺         (Δ + e) − C(Δ + e)    in float32

So the sum of all that a client sent is the sum of its updates but for one residual e, however many rounds there are.
e belongs to the update that was sent: it is used once that update has counted, by the update after it, and never
otherwise. An algorithm's extras have residuals of their own.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.adapters.files import (
    AdapterError,
    AdapterFile,
    Array,
    Contract,
    Stored,
    TensorSpec,
    slot_name,
)
from shared.adapters.updates import Computed, encode
from shared.campaign.spec import Wire

log = logging.getLogger(__name__)

_DELTA = "delta"
"""The slot of the delta's residuals in their file; those of extras have the names of the extras."""


@dataclass(frozen=True)
class Outgoing:
    """An update as it travels.

    delta, extras: as their files hold them, by names in the files. residual: e⁺ of both, by names in its own file;
    empty in float32.
    """

    delta: dict[str, Stored]
    extras: dict[str, Stored]
    residual: dict[str, Array]


def outgoing(
    delta: Mapping[str, Array], extras: Mapping[str, Array], wire: Wire, residual: Path | None = None
) -> Outgoing:
    """Round an update, with the residual of the client's last counted one added.

    A residual that is damaged, or does not fit, is left out, as one that is lost. Raises AdapterError if a value is
    not finite, or is not once it is rounded.

    Args:
        delta: by tensor.
        extras: by names in their file; empty if the algorithm has none.
        wire: the campaign's.
        residual: the file with e; None if there is none.
    """
    if wire == "float32":
        return Outgoing(encode(delta, wire)[0], encode(extras, wire)[0], {})
    slots = {slot_name(_DELTA, name): values for name, values in delta.items()} | dict(extras)
    before = _read(residual, slots) if residual is not None else {}
    after: dict[str, Array] = {}

    def whole(slot: str) -> Array:
        with np.errstate(over="ignore"):  # an infinity is refused, with the name of its tensor
            return slots[slot] + before[slot] if before else slots[slot]

    def rounded(slot_of: Mapping[str, str]) -> dict[str, Stored]:
        stored, arrived = encode(Computed(slot_of, lambda name: whole(slot_of[name])), wire)
        after.update({slot: whole(slot) - arrived[name] for name, slot in slot_of.items()})
        return stored

    return Outgoing(
        rounded({name: slot_name(_DELTA, name) for name in delta}),
        rounded({name: name for name in extras}) if extras else {},
        after,
    )


def _read(path: Path, computed: Mapping[str, Array]) -> dict[str, Array]:
    """The residuals in a file, of the tensors of an update; empty if the file cannot be used."""
    contract = Contract.of({slot: TensorSpec("F32", values.shape) for slot, values in computed.items()})
    try:
        with AdapterFile(path) as file:
            contract.check(file)
            return {slot: file.read(slot).copy() for slot in contract.tensors}
    except (AdapterError, OSError) as error:
        log.warning("what rounding took from the last counted update cannot be used, and is left out: %s", error)
        return {}
