"""The entries of the ledger. Each is one line of JSON, which names the digest of the line before it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agent.ledger.outbound import Outbound, Purpose
from shared.digest import sha256_hex
from shared.wire.base import SHA256_PATTERN

_Digest = Annotated[str, Field(pattern=SHA256_PATTERN)]
NOTHING_BEFORE = "0" * 64
"""What the first entry of a ledger names as the digest of the one before."""


class Content(BaseModel):
    """What an entry says."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Requested(Content):
    purpose: Purpose
    method: str
    path: str
    campaign: str | None = None
    bytes: Annotated[int, Field(ge=0)] = 0
    """Size of the body."""
    sha256: _Digest | None = None
    """Digest of the body; null if there is none."""
    headers: dict[str, str] = {}
    body: Any = None


class Request(_Requested):
    """One request."""

    kind: Literal["request"] = "request"


class PollsOpened(_Requested):
    """The first of a run of equal polls. What it says holds for each of them."""

    kind: Literal["polls-opened"] = "polls-opened"


class PollsClosed(Content):
    """The end of a run of polls."""

    kind: Literal["polls-closed"] = "polls-closed"
    opened: int
    """Number of the entry that opened the run."""
    count: Annotated[int, Field(ge=1)]
    first: datetime
    last: datetime
    bytes: Annotated[int, Field(ge=0)]
    """Bytes of all bodies together."""


AnyContent = Annotated[Request | PollsOpened | PollsClosed, Field(discriminator="kind")]


class Entry(BaseModel):
    """An entry with its place in the chain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: Annotated[int, Field(ge=1)]
    """Number of the entry: 1, 2, 3 and so on, over all files."""
    at: datetime
    prev: _Digest
    """SHA-256 of the line of the entry before, without its end of line."""
    says: AnyContent


_ENTRY = TypeAdapter(Entry)


def line_of(entry: Entry) -> bytes:
    """The line of an entry, without its end."""
    return entry.model_dump_json(exclude_defaults=False).encode()


def entry_of(line: bytes) -> Entry:
    """Parse a line. Raises ValidationError."""
    return _ENTRY.validate_json(line)


def digest_of(line: bytes) -> str:
    """The digest by which the next entry names a line."""
    return sha256_hex(line)


def request(outbound: Outbound) -> Request:
    """The entry of one request."""
    return Request(**_facts(outbound))


def polls_opened(outbound: Outbound) -> PollsOpened:
    """The entry that opens a run of polls like this one."""
    return PollsOpened(**_facts(outbound))


def _facts(outbound: Outbound) -> dict[str, Any]:
    return {
        "purpose": outbound.purpose,
        "method": outbound.method,
        "path": outbound.path,
        "campaign": outbound.campaign,
        "bytes": outbound.n_bytes,
        "sha256": outbound.sha256,
        "headers": dict(outbound.headers),
        "body": outbound.body,
    }
