"""A request as the ledger notes it, before it is sent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.digest import sha256_hex

MAX_BODY_BYTES = 16 << 10
"""The largest body that the ledger keeps. Of a larger one it has the size and the digest."""


class Purpose(StrEnum):
    """What a request is for."""

    ENROLMENT = "enrolment"
    SECRET = "change of the secret"  # noqa: S105
    NEWS = "news of campaigns"
    ADAPTERS = "list of adapters"
    PULL = "pull of an adapter"
    OWNERS_WORD = "owner's decision"
    BENCHMARKS = "offer of benchmarks"
    GAIN = "gain"
    SIGNATURES = "what the coordinator signed"
    WORK = "request for work"
    RENEWAL = "renewal"
    RELEASE = "task given back"
    UPLOAD = "start of an upload"
    CHUNK = "part of an upload"
    DOWNLOAD = "download"
    RESULT = "result"
    FAILURE = "failure"


POLLS = frozenset({Purpose.WORK, Purpose.NEWS})
"""What an idle agent asks over and over, with one body. The ledger folds a run of these into two entries."""


_NOTED_HEADERS = ("Range", "Upload-Offset")
"""The headers that an entry keeps: those that differ from request to request, and say what the others do not."""


@dataclass(frozen=True)
class Chunk:
    """A part of a file, with its SHA-256."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> "Chunk":
        """A part with its digest."""
        return cls(data, sha256_hex(data))


@dataclass(frozen=True)
class Outbound:
    """A request that is about to leave.

    Args:
        purpose: what it is for.
        method: of HTTP.
        path: with the query, if it has one.
        campaign: id of the campaign that it is about; None if it is about none, or about several.
        n_bytes: size of the body.
        sha256: digest of the body; None if there is none.
        body: the body, if it is small JSON without a secret.
        headers: those that an entry keeps.
    """

    purpose: Purpose
    method: str
    path: str
    campaign: str | None = None
    n_bytes: int = 0
    sha256: str | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        purpose: Purpose,
        method: str,
        path: str,
        campaign: str | None,
        text: str | None,
        chunk: Chunk | None,
        headers: Mapping[str, str],
        *,
        has_secret: bool,
    ) -> "Outbound":
        """A request with a body of JSON, with a part of a file, or with neither.

        Args:
            purpose: as above.
            method: as above.
            path: as above.
            campaign: as above.
            text: the body, if it is JSON.
            chunk: the body, if it is part of a file.
            headers: all that it has beyond those of every request.
            has_secret: whether the body must not be kept, since it can be used to pass for the agent.
        """
        data = text.encode() if text is not None else b""
        n_bytes, sha256 = (len(data), sha256_hex(data) if data else None)
        if chunk is not None:
            n_bytes, sha256 = len(chunk.data), chunk.sha256
        return cls(
            purpose=purpose,
            method=method,
            path=path,
            campaign=campaign,
            n_bytes=n_bytes,
            sha256=sha256,
            body=json.loads(data) if data and not has_secret and n_bytes <= MAX_BODY_BYTES else None,
            headers={name: headers[name] for name in _NOTED_HEADERS if name in headers},
        )
