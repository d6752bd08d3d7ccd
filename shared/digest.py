"""SHA-256, which names every blob."""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256_hex(data: bytes | memoryview) -> str:
    """The digest of *data* as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The digest of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_parts(parts: Iterable[str]) -> str:
    """The digest of several strings. Each is preceded by its length, so different lists give different input."""
    total = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        total.update(len(encoded).to_bytes(8, "big"))
        total.update(encoded)
    return total.hexdigest()


def content_digest_header(data: bytes) -> str:
    """The value of a ``Content-Digest`` header (RFC 9530) for *data*."""
    return content_digest_of(sha256_hex(data))


def content_digest_of(sha256: str) -> str:
    """The value of a ``Content-Digest`` header for bytes of this digest."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def matches_content_digest(sha256: bytes, header: str) -> bool:
    """Whether bytes of this digest match a ``Content-Digest`` header. A header without sha-256 never matches."""
    for member in header.split(","):
        name, _, value = member.strip().partition("=")
        if name.lower() == "sha-256" and len(value) > 1 and value[0] == value[-1] == ":":
            try:
                return base64.b64decode(value[1:-1], validate=True) == sha256
            except ValueError:  # binascii.Error is a ValueError; non-ASCII text raises one too
                return False
    return False
