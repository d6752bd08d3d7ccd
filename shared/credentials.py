"""Secrets. Whoever uses a secret makes it, if possible; everybody else stores its hash.

Each secret has 256 random bits, so a plain SHA-256 is enough. Slow hashes are for passwords that people choose.
"""

import hashlib
import secrets

OPERATOR_PREFIX = "flo_"
AGENT_PREFIX = "fla_"
ENROLLMENT_PREFIX = "fle_"


def new_secret(prefix: str = "") -> str:
    """Make a secret. Its prefix shows people and secret scanners what it is."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """The SHA-256 of a secret, 64 hexadecimal digits: the form in which it is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()
