"""The file of the signing key, which only the coordinator's user can read: the private key, and how it came to be.

The file, and not the database, has the chain of earlier keys. A database that is restored from an old backup would lack
the latest of it, and agents would no longer find from their key to this one.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordinator.errors import SigningKeyUnusable
from shared.signing.keys import PublicKey, SigningKey
from shared.system.durable import atomic_text, atomic_write
from shared.wire.statements import MAX_SUCCESSIONS, KeySuccession, succession_text


class _Content(BaseModel):
    """The file, as JSON."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    private_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    successions: list[KeySuccession] = []


@dataclass(frozen=True)
class Keys:
    """A signing key, and the successions that led to it, the earliest first."""

    signing: SigningKey
    successions: tuple[KeySuccession, ...] = ()

    @property
    def public(self) -> PublicKey:
        """The public half of the key."""
        return self.signing.public

    @property
    def earlier(self) -> list[PublicKey]:
        """The public halves of the keys before."""
        return [each.old for each in self.successions]

    def succeeded_by(self, new: SigningKey) -> Self:
        """The next key, signed by this one. The earliest successions go, once there are too many."""
        signature = self.signing.sign(succession_text(new.public))
        latest = KeySuccession(old=self.public, new=new.public, signature=signature)
        return type(self)(new, (*self.successions, latest)[-MAX_SUCCESSIONS:])

    @classmethod
    def of_text(cls, text: bytes, path: Path) -> Self:
        """The keys of a file's content. Raises SigningKeyUnusable, which quotes nothing of it."""
        try:
            content = _Content.model_validate_json(text)
        except ValidationError as error:
            raise SigningKeyUnusable(path, "it is no file of a signing key") from error
        return cls(SigningKey.from_text(content.private_key), tuple(content.successions))

    def to_text(self) -> str:
        """The content of the file."""
        content = _Content(private_key=self.signing.to_text(), successions=list(self.successions))
        return content.model_dump_json(indent=2) + "\n"


class KeyFile:
    """The file in one place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Keys | None:
        """The keys; None if there is no file. Raises SigningKeyUnusable."""
        try:
            if self.path.exists() and not self.path.is_file():
                raise SigningKeyUnusable(self.path, "it is not a regular file")
            return Keys.of_text(self.path.read_bytes(), self.path)
        except FileNotFoundError as error:
            if self.path.is_symlink():  # what it links to may not be mounted yet
                raise SigningKeyUnusable(self.path, "it links to a file that does not exist") from error
            return None
        except OSError as error:
            raise SigningKeyUnusable(self.path, error.strerror or type(error).__name__) from error

    def make(self) -> Keys:
        """Make and store a key. Returns the stored key if another process stored one first.

        Raises SigningKeyUnusable and OSError.
        """
        self._make_folder()
        keys = Keys(SigningKey.generate())
        try:
            with atomic_write(self.path, mode=0o600, replace=False) as file:
                file.write(keys.to_text().encode())
        except FileExistsError as error:
            if (found := self.read()) is None:
                raise SigningKeyUnusable(self.path, "it was deleted just after it was made") from error
            return found
        return keys

    def store(self, keys: Keys) -> None:
        """Replace the keys in the file, which may be a link to a file that replicas share. Raises OSError."""
        self._make_folder()
        atomic_text(self.path.resolve(), keys.to_text(), mode=0o600)

    def is_open_to_others(self) -> bool:
        """Whether other users can read the file."""
        return os.name == "posix" and self.path.exists() and bool(self.path.stat().st_mode & 0o077)

    def _make_folder(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
