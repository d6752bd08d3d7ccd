"""What can go wrong with backups.

BackupError
├── NoDatabase    there is nothing to back up
├── FileThere     a backup replaces no file
├── Busy          another restore goes into the same folder
├── NoRoom        the disk of the backup is full
├── TooFast       the coordinator let go of blobs faster than they could be copied
├── Unreadable    the database cannot be read
├── DamagedBlobs  stored bytes that are gone or have changed; names them
├── BadBackup     a file that is no backup, or not whole, or altered
├── NotEmpty      a restore goes into an empty place only
└── NotRestored   the database did not take what is in the backup
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import CoordinatorError
from shared.states import BlobKind


class BackupError(CoordinatorError):
    """Anything that backups raise on purpose."""


class NoDatabase(BackupError):
    """There is nothing to back up."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"there is no coordinator's database at {place}; --data-dir or --database-url says where it is"
        )


class FileThere(BackupError):
    """A backup replaces no file."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} is there already; give another name, or move it away")


class Busy(BackupError):
    """Another restore goes into the same folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another restore is at work in {folder}; try again when it is over")


class NoRoom(BackupError):
    """The disk of the backup is full."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file}: there is no room for the backup; nothing of it is left")


class TooFast(BackupError):
    """The coordinator let go of blobs faster than they could be copied."""

    def __init__(self, tries: int) -> None:
        super().__init__(
            f"the coordinator let go of updates while they were copied, {tries} times; "
            "try again, or pause its campaigns for the time of the backup"
        )


class Unreadable(BackupError):
    """The database cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no backup was written, for the database cannot be read: {reason}")


@dataclass(frozen=True)
class Damage:
    """A blob that cannot be backed up, and what it is of."""

    campaign: str
    kind: BlobKind
    round: int
    sha256: str
    reason: str

    def __str__(self) -> str:
        return f"campaign {self.campaign}, {self.kind} of round {self.round} ({self.sha256}): {self.reason}"


class DamagedBlobs(BackupError):
    """Stored bytes that are gone or have changed."""

    def __init__(self, damage: Sequence[Damage]) -> None:
        self.damage = damage
        super().__init__(
            "\n  ".join(
                [
                    "no backup was written, for some stored bytes are damaged:",
                    *map(str, damage),
                    "put the right bytes back, or roll the campaign back to a round before them; with "
                    "--leave-out-damaged the backup goes without them, as if they were no longer kept",
                ]
            )
        )


class BadBackup(BackupError):
    """A file that is no backup, or not whole, or altered."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file} cannot be restored: {reason}")


class NotEmpty(BackupError):
    """A restore goes into an empty place only."""

    def __init__(self, place: str) -> None:
        super().__init__(f"{place} is there and holds data; a backup is restored into an empty place only")


class NotRestored(BackupError):
    """The database did not take what is in the backup."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the backup could not be restored, and nothing of it is left: {reason}")
