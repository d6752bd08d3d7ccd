"""The owner's record as one object."""

from contextlib import AbstractContextManager
from pathlib import Path

from agent.record.benchmarks import BenchmarkRecord
from agent.record.bookings import Bookings
from agent.record.campaigns import CampaignRecord
from agent.record.database import RECORD_FILE, RecordDatabase
from agent.record.gains import GainRecord
from agent.record.held import HeldUpdates
from agent.record.measured import MeasuredRecord
from agent.record.statements import StatementRecord
from shared.signing.keys import PublicKey


class OwnerRecord:
    """The record in a home folder: ``campaigns`` that were accepted or not, ``bookings`` of work, what was ``measured``
    in it, ``held`` updates, public ``benchmarks`` that ran, and ``gains`` that the operator is told."""

    def __init__(self, home: Path) -> None:
        self.path = home / RECORD_FILE
        self._database = RecordDatabase(self.path)
        self.campaigns = CampaignRecord(self._database)
        self.bookings = Bookings(self._database)
        self.held = HeldUpdates(self._database)
        self.gains = GainRecord(self._database)
        self.measured = MeasuredRecord(self._database)
        self.benchmarks = BenchmarkRecord(self._database)

    def as_one(self) -> AbstractContextManager[None]:
        """Have what this thread reads and writes in a block be one transaction. Raises RecordUnusable."""
        return self._database.as_one()

    def statements(self, pinned: PublicKey) -> StatementRecord:
        """What a coordinator signed. pinned: its key at the enrolment."""
        return StatementRecord(self._database, pinned)

    @property
    def exists(self) -> bool:
        """Whether the home folder has a record, of whatever state."""
        return self.path.exists()

    def create(self) -> None:
        """Create the record of a new home folder. Raises RecordUnusable."""
        self._database.create()

    def check(self) -> None:
        """Raise RecordUnusable unless the record can be trusted to be whole."""
        self._database.check()
