"""The coordinator's algorithms, storage and health."""

from typing import Any

from shared.wire.base import Reply


class AlgorithmView(Reply):
    """An algorithm that campaigns can name."""

    name: str
    summary: str
    params_schema: dict[str, Any]
    """JSON Schema of the parameters."""
    state: list[str]
    """Slots that the coordinator stores with each round."""
    broadcast: list[str]
    """Slots of the state that clients receive with the global adapter."""
    extras: list[str]
    """Slots that clients upload beside the delta."""
    client_state: list[str]
    """Slots that clients store between rounds and never upload."""
    mixes_ranks: bool
    """Whether agents may train a smaller rank than the campaign's."""
    needs_exact_updates: bool
    """Whether campaigns with it send updates in `float32` only."""


class StorageView(Reply):
    """Stored blobs and bytes, by kind of blob."""

    n_blobs: int
    n_bytes: int
    bytes_by_kind: dict[str, int]
    free_bytes: int | None
    """Free bytes on the disk of the data folder; null if unknown."""


class Health(Reply):
    """Whether the service works."""

    status: str
    version: str | None = None
    """Version of the program; null for callers without a valid key."""
    reason: str | None = None
    """Why the service does not work."""
