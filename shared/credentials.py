"""Secrets: made once, by whoever will use them where that can be, and kept by others as hashes.

Each has 256 random bits, so a plain SHA-256 is enough; slow hashes are for passwords that people choose.
"""

import hashlib
import secrets

OPERATOR_PREFIX = "flo_"
AGENT_PREFIX = "fla_"
ENROLLMENT_PREFIX = "fle_"


def new_secret(prefix: str = "") -> str:
    """A new secret; its prefix tells people and scanners what it is."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """What is kept of a secret, 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()
