"""Errors of backups.

BackupError
├── NoDatabase    there is no database to back up
├── FileExists    the file of the backup exists already
├── Busy          another restore into the same folder is running
├── NoRoom        the disk of the backup is full
├── TooFast       the coordinator deleted blobs faster than they could be copied
├── Unreadable    the database cannot be read
├── DamagedBlobs  stored blobs are missing or damaged; names them
├── BadBackup     the file is not a backup, or is incomplete or altered
├── NotEmpty      the place to restore into is not empty
├── OtherKey      there is another signing key than the backup's
└── NotRestored   the database refused the rows of the backup
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import CoordinatorError
from shared.states import BlobKind


class BackupError(CoordinatorError):
    """Base class of errors of backups."""


class NoDatabase(BackupError):
    """There is no database to back up."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"there is no coordinator's database at {place}; give its place with --data-dir or --database-url"
        )


class FileExists(BackupError):
    """The file of the backup exists already."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} already exists; give another name, or move it away")


class Busy(BackupError):
    """Another restore into the same folder is running."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another restore is running in {folder}; try again when it has ended")


class NoRoom(BackupError):
    """The disk of the backup is full."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file}: the disk is full, and no backup was written; free some space, then try again")


class TooFast(BackupError):
    """The coordinator deleted blobs faster than they could be copied. tries: how often the backup was tried."""

    def __init__(self, tries: int) -> None:
        super().__init__(
            f"the coordinator deleted updates while they were copied, in each of {tries} tries; "
            "try again, or pause its campaigns during the backup"
        )


class Unreadable(BackupError):
    """The database cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no backup was written, because the database cannot be read: {reason}")


@dataclass(frozen=True)
class Damage:
    """A blob that cannot be backed up, and its use."""

    campaign: str
    kind: BlobKind
    round: int
    sha256: str
    reason: str

    def __str__(self) -> str:
        return f"campaign {self.campaign}, {self.kind} of round {self.round} ({self.sha256}): {self.reason}"


class DamagedBlobs(BackupError):
    """Stored blobs are missing or damaged."""

    def __init__(self, damage: Sequence[Damage]) -> None:
        self.damage = damage
        super().__init__(
            "\n  ".join(
                [
                    "no backup was written, because some stored blobs are missing or damaged:",
                    *map(str, damage),
                    "restore the blobs, or roll the campaign back to a round before them; with "
                    "--leave-out-damaged the backup omits them, as if they were no longer stored",
                ]
            )
        )


class BadBackup(BackupError):
    """The file is not a backup, or is incomplete or altered."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file} cannot be restored: {reason}")


class NotEmpty(BackupError):
    """The place to restore into is not empty."""

    def __init__(self, place: str) -> None:
        super().__init__(f"{place} exists and contains data; a backup can only be restored into an empty place")


class OtherKey(BackupError):
    """There is another signing key than the backup's."""

    def __init__(self, file: Path) -> None:
        super().__init__(
            f"{file} is another signing key than the backup's, by which its agents know the coordinator; move it "
            "elsewhere, so that the backup's takes its place"
        )


class NotRestored(BackupError):
    """The database refused the rows of the backup."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the backup could not be restored, and nothing was changed: {reason}")
