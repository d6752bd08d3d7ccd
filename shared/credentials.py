"""Secrets. Whoever uses a secret makes it, if possible; everybody else stores its hash.

Each secret has 256 random bits, so a plain SHA-256 is enough. Slow hashes are for passwords that people choose.
"""

import errno
import hashlib
import re
import secrets
from pathlib import Path
from typing import BinaryIO

from shared.text.text_file import marked_encoding

OPERATOR_PREFIX = "flo_"
AGENT_PREFIX = "fla_"
ENROLLMENT_PREFIX = "fle_"

_SECRET = re.compile(rf"\b({OPERATOR_PREFIX}|{AGENT_PREFIX}|{ENROLLMENT_PREFIX})[\w-]+")
_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")

SECRET_VARIABLES = (
    "FEDLOOM_KEY",
    "FEDLOOM_TOKEN",
    "FEDLOOM_DATABASE_URL",
    "FEDLOOM_DATABASE_PASSWORD",
    "PGPASSWORD",
)
"""Variables of the environment that hold a secret. A process that needs none of them does not get them."""

_MAX_SECRET_BYTES = 4096


def new_secret(prefix: str = "") -> str:
    """Make a secret. Its prefix shows people and secret scanners what it is."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """The SHA-256 of a secret, 64 hexadecimal digits: the form in which it is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def without_secrets(text: str) -> str:
    """Text for a person or a log, with secrets and the passwords in URLs left out."""
    return _PASSWORD.sub(r"\1:…@", _SECRET.sub(r"\1…", text))


def read_secret(file: Path) -> str:
    """The secret in a text file, without white space around it. Raises OSError, also if the file holds none."""
    with file.open("rb") as source:
        return read_secret_from(source, str(file))


def read_secret_from(source: BinaryIO, name: str) -> str:
    """As ``read_secret``, from an open file. name: the file's name for the error."""
    content = source.read(_MAX_SECRET_BYTES + 1)
    try:
        secret = content.decode(marked_encoding(content) or "utf-8").strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret or len(content) > _MAX_SECRET_BYTES:
        raise OSError(errno.EINVAL, "it should hold a secret and nothing else", name)
    return secret
