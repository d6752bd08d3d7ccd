"""The file of a backup: an uncompressed tar.

    blobs/SHA256     the blobs that the rows reference, from whichever store
    fedloom.db       the rows, as a SQLite database
    signing.key      the signing key, only where it was asked for
    manifest.json    a summary
    SHA256SUMS       the digests of the files before it that are no blobs, in the format of `sha256sum --check`

The last member proves that the file is complete. Names in the archive are never used as paths to unpack to.
"""

import errno
import hashlib
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from coordinator.backup.errors import BadBackup, FileExists, NoRoom
from coordinator.storage.stores import CHUNK_BYTES
from shared.digest import sha256_file, sha256_hex
from shared.system.durable import atomic_write, delete_leftovers
from shared.wire.base import BlobRef

_BLOBS, _DATABASE, _KEY, _MANIFEST, _SUMS = "blobs", "fedloom.db", "signing.key", "manifest.json", "SHA256SUMS"
_NAME = re.compile(rf"{_BLOBS}/[0-9a-f]{{64}}|{'|'.join(map(re.escape, (_DATABASE, _KEY, _MANIFEST, _SUMS)))}")
_SMALL_BYTES = 64 << 20
"""Most bytes read of a manifest."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # EFBIG: file systems with a limit of 4 GiB per file

OnBytes = Callable[[int], None]
"""Called with the size of each copied piece, in bytes."""


class Manifest(BaseModel):
    """Summary of a backup. database: the kind that it was made from. left_out: damaged blobs that it lacks."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1] = 1
    fedloom: str
    schema_revision: str
    made_at: datetime
    database: Literal["sqlite", "postgresql"]
    campaigns: int
    adapters: int
    updates: int
    n_bytes: int
    left_out: list[str]


class ArchiveWriter:
    """Writes a backup, member by member."""

    def __init__(self, file: IO[bytes], on_bytes: OnBytes) -> None:
        self._file = file
        self._on_bytes = on_bytes

    @contextmanager
    def blob(self, ref: BlobRef) -> Iterator[Callable[[bytes], None]]:
        """Add a blob. Yields the function that writes its bytes. If the block raises, the member is removed."""
        with self._member(f"{_BLOBS}/{ref.sha256}", ref.n_bytes) as write:
            yield write

    def finish(self, database: Path, signing_key: bytes | None, manifest: Manifest) -> None:
        """Add the rows, the signing key if there is one to add, the manifest and the digests."""
        with database.open("rb") as rows, self._member(_DATABASE, database.stat().st_size) as write:
            while chunk := rows.read(CHUNK_BYTES):
                write(chunk)
        manifest_json = manifest.model_dump_json(indent=2).encode()
        small = {_KEY: signing_key, _MANIFEST: manifest_json}
        members = {name: data for name, data in small.items() if data is not None}
        digests = {_DATABASE: sha256_file(database)} | {name: sha256_hex(data) for name, data in members.items()}
        members[_SUMS] = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
        for name, data in members.items():
            with self._member(name, len(data)) as write:
                write(data)
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    @contextmanager
    def _member(self, name: str, n_bytes: int) -> Iterator[Callable[[bytes], None]]:
        start = self._file.tell()
        info = tarfile.TarInfo(name)
        info.size, info.mode = n_bytes, 0o600
        self._file.write(info.tobuf(tarfile.GNU_FORMAT))
        try:
            yield self._write
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        self._file.write(bytes(-n_bytes % tarfile.BLOCKSIZE))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._on_bytes(len(data))


@contextmanager
def writing(file: Path, on_bytes: OnBytes) -> Iterator[ArchiveWriter]:
    """Write a backup atomically: the file appears, complete, when the block ends. Raises FileExists and NoRoom."""
    _refuse_to_replace(file)
    delete_leftovers(file, spare_running=True)
    try:
        with atomic_write(file, mode=0o600, replace=False) as draft:
            yield ArchiveWriter(draft, on_bytes)
    except FileExistsError as error:
        raise FileExists(file) from error
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoom(file) from error
        raise


def _refuse_to_replace(file: Path) -> None:
    if os.path.lexists(file):
        raise FileExists(file)


class ArchiveReader:
    """A backup with a checked manifest. Other members are checked when they are unpacked."""

    def __init__(self, file: Path, tar: tarfile.TarFile, on_bytes: OnBytes) -> None:
        self._file = file
        self._tar = tar
        self._on_bytes = on_bytes
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            if _NAME.fullmatch(member.name) is None or member.type != tarfile.REGTYPE or member.name in self._members:
                raise BadBackup(file, f"it contains {member.name!r}, which is not part of a backup")
            self._members[member.name] = member
        self._sums = self._read_sums()
        self.manifest = self._read_manifest()

    def unpack_database(self, path: Path) -> None:
        """Write the rows' SQLite database to *path*. Raises BadBackup and OSError."""
        self._unpack(_DATABASE, self._sums[_DATABASE], path)

    def unpack_blob(self, ref: BlobRef, path: Path) -> None:
        """Write a blob to *path*. Raises BadBackup and OSError."""
        self._unpack(f"{_BLOBS}/{ref.sha256}", ref.sha256, path)

    def signing_key(self) -> bytes | None:
        """The content of the signing key's file; None if the backup has none. Raises BadBackup."""
        if _KEY not in self._members:
            return None
        content = self._read_small(_KEY)
        if sha256_hex(content) != self._sums[_KEY]:
            raise BadBackup(self._file, f"{_KEY} was altered")
        return content

    @property
    def n_bytes(self) -> int:
        """Total size of the members."""
        return sum(member.size for member in self._members.values())

    def _read_sums(self) -> dict[str, str]:
        if _SUMS not in self._members:
            raise BadBackup(self._file, "it is not a backup of a coordinator, or it is incomplete")
        lines = self._read_small(_SUMS).decode("ascii", "replace").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        if sums.keys() != {_DATABASE, _MANIFEST} | ({_KEY} & self._members.keys()):
            raise BadBackup(self._file, f"{_SUMS} was altered")
        return sums

    def _read_manifest(self) -> Manifest:
        manifest_json = self._read_small(_MANIFEST)
        if sha256_hex(manifest_json) != self._sums[_MANIFEST]:
            raise BadBackup(self._file, f"{_MANIFEST} or {_SUMS} was altered")
        try:
            return Manifest.model_validate_json(manifest_json)
        except ValidationError as error:
            raise BadBackup(self._file, "this version cannot read its manifest; upgrade fedloom") from error

    def _read_small(self, name: str) -> bytes:
        with self._open(name) as member:
            return member.read(_SMALL_BYTES)

    def _open(self, name: str) -> IO[bytes]:
        member = self._tar.extractfile(self._members[name]) if name in self._members else None
        if member is None:
            raise BadBackup(self._file, f"{name} is missing")
        return member

    def _unpack(self, name: str, sha256: str, path: Path) -> None:
        digest = hashlib.sha256()
        private = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(private, "wb") as out, self._open(name) as member:
            while chunk := member.read(CHUNK_BYTES):
                digest.update(chunk)
                out.write(chunk)
                self._on_bytes(len(chunk))
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != sha256:
            raise BadBackup(self._file, f"{name} was altered")


@contextmanager
def reading(file: Path, on_bytes: OnBytes) -> Iterator[ArchiveReader]:
    """Open a backup while the block runs. Raises BadBackup and OSError."""
    try:
        with tarfile.open(file, "r:") as tar:
            yield ArchiveReader(file, tar, on_bytes)
    except tarfile.TarError as error:
        raise BadBackup(file, f"it is not a backup of a coordinator, or it is incomplete ({error})") from error
