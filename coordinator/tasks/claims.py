"""The lease header: what an agent claims to hold. Whether it does hold it is checked in ``leases``, by the fence."""

from dataclasses import dataclass

from coordinator.database.numbers import MAX_INT, read_number
from coordinator.errors import LeaseLost
from shared.credentials import hash_secret


@dataclass(frozen=True)
class LeaseClaim:
    """A claim to a task's lease: the attempt, and the hash of its token."""

    task_id: str
    agent_id: str
    attempt: int
    token_hash: str


@dataclass(frozen=True)
class LeaseHolder:
    """An agent, and the lease header of its request."""

    agent_id: str
    header: str

    def claim_of(self, task_id: str) -> LeaseClaim:
        """The claim on a task. Raises LeaseLost where the header is missing or unreadable."""
        attempt, _, token = self.header.partition(".")
        number = read_number(attempt)
        if number is None or number > MAX_INT or not token:
            raise LeaseLost(task_id, -1)
        return LeaseClaim(task_id, self.agent_id, number, hash_secret(token))
