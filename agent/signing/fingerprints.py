"""Fingerprints: digits by which people compare what they were told."""

from dataclasses import dataclass

from shared.digest import sha256_hex
from shared.signing.keys import PublicKey, spoken
from shared.signing.statements import (
    AdapterSigned,
    HistorySigned,
    RosterSigned,
    SpecificationSigned,
    Statement,
    digest_of,
    statement_of,
)


@dataclass(frozen=True)
class Fingerprint:
    """Stands for a statement, all before it, and the key that they are signed by.

    Args:
        number: the statement's.
        about: what it says, in words.
        spoken: eight groups of five digits.
    """

    number: int
    about: str
    spoken: str


def fingerprint_of(key: PublicKey, text: str) -> Fingerprint:
    """The fingerprint as of a statement. key: by which the coordinator signs now. text: the statement."""
    statement = statement_of(text)
    digits = spoken(sha256_hex(f"{key}\n{digest_of(text)}".encode()))
    return Fingerprint(statement.number, _in_words(statement), digits)


def _in_words(statement: Statement) -> str:
    match statement:
        case SpecificationSigned():
            return "the specification"
        case AdapterSigned():
            return f"adapter {statement.adapter}"
        case RosterSigned():
            return f"the roster of round {statement.round}"
        case HistorySigned():
            return "a rollback or a restored coordinator"
