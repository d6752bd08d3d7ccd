"""The base classes of all messages, pages of listings, and the constants of the protocol."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from shared.bounds import Bounded, Bytes
from shared.validation.described import Described

PROTOCOL = "1-113bc4"
"""The protocol that this code speaks. Until the first release it changes in place. The part after the dash is a digest
of all messages, which a test compares, so that peers with other code are recognised."""
SERVED_PROTOCOLS = frozenset({PROTOCOL})
"""The protocols that a coordinator serves: its own and, from the first release on, older ones it still understands."""
PROTOCOL_HEADER = "Fedloom-Protocol"
LEASE_HEADER = "Fedloom-Lease"
"""Header with ``<attempt>.<token>``, which proves that the sender holds the lease of the task."""

CHUNK_BYTES = 32 << 20
"""Maximum size of an upload chunk, in bytes."""

ID_PATTERN = r"^[0-9A-Za-z-]{1,64}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
Id = Annotated[str, Field(pattern=ID_PATTERN)]
"""The id of a campaign, task, agent or upload. An agent names folders and URLs by it."""
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]


class Request(Bounded):
    """A message to the coordinator."""

    model_config = ConfigDict(extra="forbid")


class Reply(Described):
    """A message from the coordinator."""

    model_config = ConfigDict(extra="ignore", frozen=True)


T = TypeVar("T")


class Page(Reply, Generic[T]):
    """One page of a listing."""

    items: list[T]
    next_cursor: str | None = None
    """Cursor of the next page; null on the last page."""


class BlobRef(BaseModel):
    """Digest and size of a blob."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    sha256: Sha256
    n_bytes: Bytes
