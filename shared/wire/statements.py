"""Signed statements, and the coordinator's signing keys, as agents get them."""

from typing import Annotated

from pydantic import Field

from shared.signing.keys import PublicKey, Signature
from shared.wire.base import Reply

MAX_STATEMENT_CHARS = 4_000_000
"""The most characters of a statement: a roster of 59,000 clients with the longest names."""
MAX_STATEMENTS = 100
"""The most statements of one reply."""
REPLY_CHARS = 400_000
"""Characters of texts after which a reply ends, and the next one goes on."""
MAX_SUCCESSIONS = 1000


class SignedStatement(Reply):
    """A statement with its signature."""

    text: Annotated[str, Field(max_length=MAX_STATEMENT_CHARS)]
    """The statement as JSON, exactly as it was signed."""
    key: Annotated[str, Field(max_length=200)] = ""
    """The public key. Of any form here, and of the signature too: the reader says in words what is wrong with it."""
    signature: Annotated[str, Field(max_length=200)] = ""


class SignedStatements(Reply):
    """Statements of a campaign, in the order of their numbers."""

    statements: Annotated[list[SignedStatement], Field(max_length=MAX_STATEMENTS)]
    has_more: bool
    """Whether later ones follow."""


class KeySuccession(Reply):
    """A signing key and the one that took its place, which it signed."""

    old: PublicKey
    new: PublicKey
    signature: Signature
    """Of ``succession_text(new)``, by the old key."""


class SigningKeys(Reply):
    """The signing key by now, and how it came to be."""

    current: PublicKey
    successions: Annotated[list[KeySuccession], Field(max_length=MAX_SUCCESSIONS)]
    """The earliest first."""


def succession_text(new: str) -> str:
    """The text by which a key signs its successor."""
    return f"the next signing key is {new}"
