"""Ed25519 keys (RFC 8032), as hexadecimal digits."""

from typing import Annotated, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field

PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A public key: 64 hexadecimal digits."""
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
"""A signature: 128 hexadecimal digits."""
_CONTEXT = b"fedloom statement\n"
"""What precedes every signed text, so that no signature of the key means anything elsewhere."""


class SigningKey:
    """A private key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: PublicKey = private.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The key of 64 hexadecimal digits. Raises ValueError."""
        return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text)))

    def to_text(self) -> str:
        """The private key, as 64 hexadecimal digits."""
        return self._private.private_bytes_raw().hex()

    def sign(self, text: str) -> Signature:
        """Sign a text."""
        return self._private.sign(_CONTEXT + text.encode()).hex()


def is_signed(text: str, signature: str, key: str) -> bool:
    """Whether the signature of a text is of a public key. Anything that is no key and no signature is not."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(signature), _CONTEXT + text.encode())
    except (ValueError, InvalidSignature):
        return False
    return True


def spoken(sha256: str) -> str:
    """A digest as eight groups of five digits, to be compared over the telephone: 132 of its bits."""
    number = int(sha256, 16) % 10**40
    digits = f"{number:040}"
    return " ".join(digits[start : start + 5] for start in range(0, 40, 5))
