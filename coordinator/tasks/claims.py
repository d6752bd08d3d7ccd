"""The lease header: an agent's claim to hold a lease. ``leases`` checks the claim, by the fence."""

from dataclasses import dataclass

from coordinator.database.numbers import read_number
from coordinator.errors import LeaseLost
from shared.bounds import MAX_COUNT
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
        """The claim on a task. Raises LeaseLost if the header is missing or malformed."""
        attempt, _, token = self.header.partition(".")
        number = read_number(attempt)
        if number is None or number > MAX_COUNT or not token:
            raise LeaseLost(task_id, None)
        return LeaseClaim(task_id, self.agent_id, number, hash_secret(token))
