"""What the coordinator says of itself: algorithms, storage, health."""

from typing import Any

from shared.wire.base import Reply


class AlgorithmView(Reply):
    """An algorithm that campaigns can name, with the JSON Schema of its parameters."""

    name: str
    summary: str
    params_schema: dict[str, Any]
    state: list[str]
    broadcast: list[str]
    extras: list[str]
    client_state: list[str]


class StorageView(Reply):
    """Bytes held, by kind of blob."""

    n_blobs: int
    n_bytes: int
    bytes_by_kind: dict[str, int]
    free_bytes: int | None


class Health(Reply):
    """Whether the service works. ``reason`` says why it does not."""

    status: str
    version: str
    reason: str | None = None
