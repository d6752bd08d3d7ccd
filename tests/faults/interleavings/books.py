"""The test's record of requests and replies, and the state that must follow from it by the campaign's rules alone."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.faults.interleavings.owners import SIZE, Lease, Owner, Vector, Work
from tests.support.operator import problem

_BY_THE_WAY = {"n_clients", "n_in_round", "participants", "n_participants"}
"""Fields of an assignment that change while others join, leave, or are drawn."""


@dataclass(frozen=True)
class Accepted:
    """A result that the coordinator accepted."""

    lease: Lease
    work: Work

    @property
    def round(self) -> int:
        return int(self.lease.job["round"])


@dataclass(frozen=True)
class Closed:
    """A closed round: its recorded rows, and the values that follow from the accepted updates.

    recorded: the rows as first read. x: the adapter. m: FedAvgM's momentum. committed: by client number, each client's
    last update that counted, without those from before an algorithm restart. tasks: ids of the tasks that counted.
    """

    recorded: dict[str, Any]
    x: Vector
    m: Vector = field(default_factory=lambda: np.zeros(SIZE))
    committed: Mapping[int, Accepted] = field(default_factory=dict)
    tasks: frozenset[str] = frozenset()


class Book:
    """The record of one example."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.granted: dict[str, Lease] = {}
        self._asked: dict[Hashable, dict[str, Any]] = {}
        self.accepted: dict[str, Accepted] = {}
        self.undone: set[str] = set()
        self.closed: dict[str, dict[int, Closed]] = {}
        self.held_out: dict[tuple[str, int], float] = {}
        self.n_events: dict[str, int] = {}
        self._ended: set[tuple[str, int]] = set()
        self._failed: set[tuple[str, int]] = set()
        self._held: set[tuple[str, int]] = set()
        self._offsets: dict[str, int] = {}

    def begin(self, campaign_id: str, body: dict[str, Any]) -> None:
        self.bodies[campaign_id] = body
        self.closed[campaign_id] = {}

    def grant(self, lease: Lease) -> None:
        """Record a granted lease: its task has no accepted result, and its attempt is one more than the last.

        A round's training is the same for an owner in every task and attempt, since it is done once.
        """
        before = self.granted.get(lease.task_id)
        assert lease.attempt == (before.attempt + 1 if before is not None else 1)
        assert before is None or before.owner is lease.owner
        assert lease.task_id not in self.accepted
        asked = {name: value for name, value in lease.job.items() if name not in _BY_THE_WAY}
        assert self._asked.setdefault((lease.owner.name, lease.piece), asked) == asked
        self.granted[lease.task_id] = lease

    def may_live(self, lease: Lease) -> bool:
        """Whether no known event has ended the lease."""
        return self.granted[lease.task_id] is lease and (lease.task_id, lease.attempt) not in self._ended

    def end(self, lease: Lease) -> None:
        """Record that the owner released the task, or failed."""
        assert self.may_live(lease)
        self._ended.add((lease.task_id, lease.attempt))

    def stop(self, owner: Owner, campaign_id: str) -> None:
        """Record that an owner's agent works on a campaign no more, for now or for good."""
        for lease in self.granted.values():
            if lease.owner is owner and lease.campaign_id == campaign_id:
                self._ended.add((lease.task_id, lease.attempt))

    def fail(self, lease: Lease) -> None:
        """Record an accepted failure. Repeating the same failure is allowed."""
        if (lease.task_id, lease.attempt) in self._failed:
            return
        self.end(lease)
        self._failed.add((lease.task_id, lease.attempt))

    def hold(self, lease: Lease) -> None:
        """Record that an owner holds the update. Repeating it is allowed."""
        if (lease.task_id, lease.attempt) in self._held:
            return
        self.end(lease)
        self._held.add((lease.task_id, lease.attempt))

    def result(self, lease: Lease, work: Work, reply: httpx.Response) -> None:
        """Record the reply to a result. The current attempt's first result counts; repeating it succeeds."""
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
        """Check that an upload continues where it stopped."""
        assert found == self._offsets.get(upload_id, 0)

    def append(self, upload_id: str, end: int) -> None:
        self._offsets[upload_id] = end

    def roll_back(self, campaign_id: str, number: int) -> None:
        """Undo everything after a round, including late updates that had not counted yet."""
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

    def lost_before(self, campaign_id: str, number: int) -> set[int]:
        """The client numbers of those that reported lost client state in a round before this one."""
        return {
            each["client_number"]
            for closed_in, closed in self.closed[campaign_id].items()
            for each in closed.recorded["contributions"]
            if closed_in < number and each["client_state_lost"]
        }

    def weight(self, campaign_id: str, owner: Owner) -> int:
        """Weight of a client's update before normalisation."""
        by = self.bodies[campaign_id].get("weighting", {}).get("by", "examples")
        return owner.rows if by == "examples" else 1

    def close(
        self, campaign_id: str, number: int, recorded: dict[str, Any], counted: Sequence[tuple[int, Accepted]]
    ) -> None:
        """Record a closed round: compute its adapter from the updates that count, by client number."""
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
            recorded=recorded,
            x=before.x + m,
            m=m,
            committed={} if start_again else {**before.committed, **dict(counted)},
            tasks=frozenset(each.lease.task_id for _, each in counted),
        )
        for share, weighed in zip(shares, recorded["contributions"], strict=True):
            np.testing.assert_allclose(weighed["weight"], share, rtol=1e-9)

    def control_variate(self, campaign_id: str, number: int, clients: Mapping[int, Owner]) -> Vector:
        """SCAFFOLD's c after a round, over the clients of that round: Σ q_k c_k."""
        weights = {client: self.weight(campaign_id, owner) for client, owner in clients.items()}
        total = np.zeros(SIZE)
        for client, each in self.closed[campaign_id][number].committed.items():
            assert each.work.client_state is not None
            total += weights[client] / sum(weights.values()) * each.work.client_state
        return total
