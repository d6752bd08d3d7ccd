"""What a test writes down of what was said and answered, and what must follow from it by the campaign's rules alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.faults.interleavings.owners import SIZE, Lease, Owner, Vector, Work
from tests.support.operator import problem


@dataclass(frozen=True)
class Accepted:
    """A result that the coordinator took."""

    lease: Lease
    work: Work

    @property
    def round(self) -> int:
        return int(self.lease.job["round"])


@dataclass(frozen=True)
class Closed:
    """What a round said once it had closed, and what follows from it.

    said: the rows as they are read. x: the adapter. m: FedAvgM's momentum. counted: by client number, the update of
    each client that counted last, none from before all started again.
    """

    said: dict[str, Any]
    x: Vector
    m: Vector = field(default_factory=lambda: np.zeros(SIZE))
    counted: Mapping[int, Accepted] = field(default_factory=dict)
    tasks: frozenset[str] = frozenset()


class Book:
    """Of one example."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.granted: dict[str, Lease] = {}
        self.accepted: dict[str, Accepted] = {}
        self.undone: set[str] = set()
        self.closed: dict[str, dict[int, Closed]] = {}
        self.held_out: dict[tuple[str, int], float] = {}
        self.n_events: dict[str, int] = {}
        self._ended: set[tuple[str, int]] = set()
        self._failed: set[tuple[str, int]] = set()
        self._offsets: dict[str, int] = {}

    def begin(self, campaign_id: str, body: dict[str, Any]) -> None:
        self.bodies[campaign_id] = body
        self.closed[campaign_id] = {}

    def grant(self, lease: Lease) -> None:
        """A lease is granted: of a task that nothing has come of, one attempt after the one before."""
        before = self.granted.get(lease.task_id)
        assert lease.attempt == (before.attempt + 1 if before is not None else 1)
        assert before is None or before.owner is lease.owner
        assert lease.task_id not in self.accepted
        self.granted[lease.task_id] = lease

    def may_live(self, lease: Lease) -> bool:
        """Whether nothing is known that ended the lease."""
        return self.granted[lease.task_id] is lease and (lease.task_id, lease.attempt) not in self._ended

    def end(self, lease: Lease) -> None:
        """The owner gave the task back, or failed."""
        assert self.may_live(lease)
        self._ended.add((lease.task_id, lease.attempt))

    def fail(self, lease: Lease) -> None:
        """A failure was taken down; the same failure again is as good."""
        if (lease.task_id, lease.attempt) in self._failed:
            return
        self.end(lease)
        self._failed.add((lease.task_id, lease.attempt))

    def result(self, lease: Lease, work: Work, reply: httpx.Response) -> None:
        """A result was answered: the first of the current attempt counts, the same again is as good, others are not."""
        known = self.accepted.get(lease.task_id)
        if reply.status_code == 200:
            if known is None:
                assert self.may_live(lease)
                self._ended.add((lease.task_id, lease.attempt))
                self.accepted[lease.task_id] = Accepted(lease, work)
            else:
                assert (known.lease.attempt, known.work.body) == (lease.attempt, work.body)
        elif reply.status_code == 409:
            assert problem(reply).kind == "result-differs"
            assert known is not None
            assert known.lease.attempt == lease.attempt
            assert known.work.body != work.body
        elif reply.status_code == 422 and problem(reply).kind == "bad-update":
            self.end(lease)

    def offset(self, upload_id: str, found: int) -> None:
        """An upload goes on where it stopped."""
        assert found == self._offsets.get(upload_id, 0)

    def append(self, upload_id: str, end: int) -> None:
        self._offsets[upload_id] = end

    def roll_back(self, campaign_id: str, number: int) -> None:
        """Nothing that came after a round counts any more, nor what waited to count."""
        closed = self.closed[campaign_id]
        for later in [each for each in closed if each > number]:
            del closed[later]
        counted = {task for each in closed.values() for task in each.tasks}
        for task_id, accepted in self.accepted.items():
            lease = accepted.lease
            if lease.campaign_id != campaign_id or lease.kind not in ("train", "evaluate"):
                continue
            if (task_id not in counted) if lease.kind == "train" else accepted.round > number:
                self.undone.add(task_id)
        self.held_out = {
            key: value for key, value in self.held_out.items() if key[0] != campaign_id or key[1] <= number
        }

    def weight(self, campaign_id: str, owner: Owner) -> int:
        """What a client's update counts before it is normalised."""
        by = self.bodies[campaign_id].get("weighting", {}).get("by", "examples")
        return owner.rows if by == "examples" else 1

    def close(
        self, campaign_id: str, number: int, said: dict[str, Any], counted: Sequence[tuple[int, Accepted]]
    ) -> None:
        """A round closed with updates, by client number: what adapter comes of it."""
        body = self.bodies[campaign_id]
        before = self.closed[campaign_id][number - 1]
        algorithm = body["algorithm"]["name"]
        exponent = body["stragglers"].get("staleness_exponent", 0.5)
        weights = [
            self.weight(campaign_id, each.lease.owner) * (1.0 + number - each.round) ** -exponent for _, each in counted
        ]
        shares = [weight / sum(weights) for weight in weights]
        mean = np.zeros(SIZE)
        for share, (_, each) in zip(shares, counted, strict=True):
            assert each.work.change is not None
            mean += share * each.work.change
        m = mean if algorithm != "fedavgm" or number == 1 else 0.9 * before.m + 0.1 * mean
        start_again = any(each.work.body["client_state_lost"] for _, each in counted)
        self.closed[campaign_id][number] = Closed(
            said=said,
            x=before.x + m,
            m=m,
            counted={} if start_again else {**before.counted, **dict(counted)},
            tasks=frozenset(each.lease.task_id for _, each in counted),
        )
        for share, weighed in zip(shares, said["contributions"], strict=True):
            np.testing.assert_allclose(weighed["weight"], share, rtol=1e-9)

    def control_variate(self, campaign_id: str, number: int, clients: Mapping[int, Owner]) -> Vector:
        """SCAFFOLD's c after a round, over those who were clients in it: Σ q_k c_k."""
        weights = {client: self.weight(campaign_id, owner) for client, owner in clients.items()}
        total = np.zeros(SIZE)
        for client, each in self.closed[campaign_id][number].counted.items():
            assert each.work.kept is not None
            total += weights[client] / sum(weights.values()) * each.work.kept
        return total
