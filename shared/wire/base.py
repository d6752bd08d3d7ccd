"""What all messages share: the two base classes, pages, and the constants of the protocol."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

PROTOCOL = "1-349e58"
"""The protocol that this code speaks. Until a release it is rewritten in place; the part after the dash is a digest of
all messages, which a test compares, so that peers of other code are told apart."""
SERVED_PROTOCOLS = frozenset({PROTOCOL})
"""What a coordinator serves: its own protocol, and from the first release on older ones that it still understands."""
PROTOCOL_HEADER = "Fedloom-Protocol"
LEASE_HEADER = "Fedloom-Lease"
"""``<attempt>.<token>``: the right to speak for a task."""

CHUNK_BYTES = 8 << 20
"""Bytes of one upload chunk, at most."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Request(BaseModel):
    """Sent to the coordinator."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Reply(BaseModel):
    """Sent by the coordinator."""

    model_config = ConfigDict(extra="ignore", frozen=True)


T = TypeVar("T")


class Page(Reply, Generic[T]):
    """A part of a listing. ``next_cursor`` asks for the part after it, and is None at the end."""

    items: list[T]
    next_cursor: str | None = None


class BlobRef(BaseModel):
    """A blob by its digest, and how many bytes it has."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=0)]
