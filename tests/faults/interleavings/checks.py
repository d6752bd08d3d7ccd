"""Invariants that must hold after each step."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from coordinator.database.tables import AdapterRow, RoundRow
from coordinator.engine.aggregation.verify import verify_round
from coordinator.lifecycle import LIVE_TASK
from shared.states import BlobKind, CampaignState, ParticipantState, RoundState, TaskKind, TaskState
from shared.wire.verification import Outcome
from tests.faults.interleavings.books import Accepted, Book, Closed
from tests.faults.interleavings.owners import STATE_SLOTS, Owner, Vector, vector_of
from tests.faults.interleavings.snapshot import Snapshot, read_blob, read_snapshot
from tests.faults.interleavings.world import World

CLOSE = {"rtol": 1e-6, "atol": 2e-5}
"""Relative tolerance between float32 and float64."""


class Checks:
    """Compares the test's record with the coordinator's state."""

    def __init__(self, world: World, book: Book, owners: Sequence[Owner]) -> None:
        self._world, self._book, self._owners = world, book, owners

    def after_step(self, campaign_id: str) -> Snapshot:
        """Check all invariants of a campaign. Returns its snapshot."""
        snapshot = self._world.run(read_snapshot(self._world.services, campaign_id))
        self._numbers(snapshot)
        self._tasks(snapshot)
        self._leases(snapshot)
        for adapter in snapshot.adapters:
            self._adapter(snapshot, adapter)
        self._counted(snapshot)
        self._clients(snapshot)
        self._stored(snapshot)
        return snapshot

    def _numbers(self, snapshot: Snapshot) -> None:
        """Rounds, adapters and events are numbered without gaps, and closed rounds stay closed."""
        campaign = snapshot.campaign
        assert [row.number for row in snapshot.adapters] == list(
            range(campaign.rounds_closed + 1 if snapshot.adapters else 0)
        )
        assert [row.number for row in snapshot.rounds] == list(range(1, len(snapshot.rounds) + 1))
        states = [row.state for row in snapshot.rounds]
        assert states[: campaign.rounds_closed] == [RoundState.CLOSED] * campaign.rounds_closed
        ends_here = campaign.ends_after == campaign.rounds_closed
        is_over = campaign.state is CampaignState.CANCELLED or ends_here
        expected = RoundState.CANCELLED if is_over else None
        for state in states[campaign.rounds_closed :]:
            assert state is expected or (expected is None and state in (RoundState.OPEN, RoundState.AGGREGATING))
        assert len(states) <= campaign.rounds_closed + 1
        assert snapshot.events == list(range(1, campaign.last_event + 1))
        assert campaign.last_event >= self._book.n_events.get(campaign.id, 0)
        self._book.n_events[campaign.id] = campaign.last_event
        ended = (CampaignState.COMPLETED, CampaignState.CANCELLED)
        assert (campaign.ended_at is not None) == (campaign.state in ended)
        if campaign.state is CampaignState.COMPLETED:
            assert campaign.final_adapter == campaign.rounds_closed == campaign.last_round

    def _tasks(self, snapshot: Snapshot) -> None:
        """Done tasks are exactly the accepted ones, and each client has at most one update per round."""
        for task in snapshot.tasks:
            accepted = self._book.accepted.get(task.id)
            assert (task.result is not None) == (accepted is not None)
            if accepted is not None:
                assert task.state is TaskState.SUPERSEDED or (
                    task.state is TaskState.DONE and task.id not in self._book.undone
                )
                assert task.attempt == accepted.lease.attempt
                assert task.result is not None
                assert {name: task.result[name] for name in accepted.work.body} == accepted.work.body
            else:
                assert task.state is not TaskState.DONE
            if snapshot.campaign.state.is_final:
                assert task.state not in LIVE_TASK
        updates = [(task.agent_id, task.round) for task in snapshot.train_tasks(*LIVE_TASK, TaskState.DONE)]
        assert len(updates) == len(set(updates))
        # the metric of an undone round or a discarded late update is deleted or never written again
        assert max(Counter(snapshot.trained).values(), default=0) <= 1

    def _leases(self, snapshot: Snapshot) -> None:
        for task in snapshot.tasks:
            lease = self._book.granted.get(task.id)
            assert task.attempt == (lease.attempt if lease is not None else 0)
            if task.state is TaskState.LEASED:
                assert lease is not None
                assert self._book.may_live(lease)
                assert task.token_hash == hashlib.sha256(lease.body["token"].encode()).hexdigest()
                assert task.agent_id == lease.owner.id
                assert task.lease_expires_at is not None
                assert task.instance_id is not None
            elif task.state is TaskState.PENDING:
                assert (task.token_hash, task.instance_id, task.lease_expires_at) == (None, None, None)
        stopped = {each.agent_id for each in snapshot.participants if each.state is ParticipantState.LEFT}
        assert not stopped & {task.agent_id for task in snapshot.tasks if task.state in LIVE_TASK}
        # an agent works on one task at a time
        at_work = Counter(task.agent_id for task in snapshot.tasks if task.state is TaskState.LEASED)
        assert max(at_work.values(), default=0) <= 1

    def _adapter(self, snapshot: Snapshot, adapter: AdapterRow) -> None:
        """An adapter's recorded fields never change, and they follow from the accepted updates."""
        closed = self._book.closed[adapter.campaign_id]
        recorded = _recorded(adapter, next((row for row in snapshot.rounds if row.number == adapter.number), None))
        known = closed.get(adapter.number)
        if known is not None:
            assert recorded == known.recorded
        elif adapter.number == 0:
            [first] = [task for task in snapshot.tasks if task.kind is TaskKind.INIT and task.state is TaskState.DONE]
            start = self._book.accepted[first.id].work
            assert start.change is not None
            assert adapter.sha256 == start.body["adapter"]
            closed[0] = Closed(recorded, start.change)
        else:
            counted = self._contributions(snapshot, adapter)
            assert adapter.parent_sha256 == snapshot.adapters[adapter.number - 1].sha256
            assert abs(sum(each["weight"] for each in adapter.contributions) - 1) < 1e-9
            self._book.close(adapter.campaign_id, adapter.number, recorded, counted)
            self._bytes(snapshot, adapter)
        self._held_out(snapshot, adapter)

    def _contributions(self, snapshot: Snapshot, adapter: AdapterRow) -> list[tuple[int, Accepted]]:
        """The updates in an adapter, by client number: those of all tasks that count in its round, each once."""
        counted = [task for task in snapshot.train_tasks(TaskState.DONE) if task.counts_in == adapter.number]
        counted.sort(key=lambda task: snapshot.client_numbers[task.agent_id])
        found = []
        assert len(counted) == len(adapter.contributions)
        for task, contribution in zip(counted, adapter.contributions, strict=True):
            accepted = self._book.accepted[task.id]
            assert task.id not in self._book.undone
            assert not any(task.id in each.tasks for each in self._book.closed[adapter.campaign_id].values())
            client = snapshot.client_numbers[task.agent_id]
            assert (contribution["client_number"], contribution["agent_name"]) == (client, accepted.lease.owner.name)
            assert contribution["update_sha256"] == accepted.work.body["delta"]
            assert contribution["extras_sha256"] == accepted.work.body["extras"]
            assert contribution["client_state_lost"] == accepted.work.body["client_state_lost"]
            is_second = contribution["client_state_lost"] and client in self._book.lost_before(
                adapter.campaign_id, adapter.number
            )
            assert not is_second, "one client restarted the algorithm twice"
            assert contribution["staleness"] == adapter.number - accepted.round
            assert contribution["n_examples"] == accepted.lease.owner.rows
            assert contribution["staleness"] in (0, 1)
            found.append((client, accepted))
        own = [each for each in adapter.contributions if not each["staleness"]]
        assert len(own) >= snapshot.campaign.spec.selection.minimum
        assert len({client for client, _ in found}) == len(found)
        return found

    def _bytes(self, snapshot: Snapshot, adapter: AdapterRow) -> None:
        """The adapter and the server state equal those that plain numpy computes from the same updates."""
        book = self._book.closed[adapter.campaign_id][adapter.number]
        algorithm = snapshot.campaign.spec.algorithm.name
        self._check_blob(snapshot, adapter.sha256, "", book.x)
        starts_again = any(each["client_state_lost"] for each in adapter.contributions)
        if algorithm == "fedavg" or starts_again:
            assert adapter.state_sha256 is adapter.broadcast_sha256 is None
            return
        assert adapter.state_sha256 is not None
        slot, expected = "m", book.m
        if algorithm in STATE_SLOTS:
            assert adapter.state_sha256 == adapter.broadcast_sha256
            by_name = {owner.name: owner for owner in self._owners}
            clients = {
                each.client_number: by_name[each.agent_name]
                for each in snapshot.participants
                if each.client_number is not None and (each.joined_round or 1) <= adapter.number
            }
            slot, expected = "c", self._book.control_variate(adapter.campaign_id, adapter.number, clients)
        self._check_blob(snapshot, adapter.state_sha256, f"{slot}/", expected)

    def _check_blob(self, snapshot: Snapshot, sha256: str, slot: str, expected: Vector) -> None:
        """A blob holds the expected values, unless a later round closed in the same step has released it."""
        use = next((use for use in snapshot.uses if use.sha256 == sha256 and use.stored), None)
        if use is not None:
            data = self._world.run(read_blob(self._world.services, use))
            assert hashlib.sha256(data).hexdigest() == sha256
            np.testing.assert_allclose(vector_of(data, slot), expected, **CLOSE)

    def _held_out(self, snapshot: Snapshot, adapter: AdapterRow) -> None:
        """The held-out loss is the token-weighted mean of the clients' losses, and never changes."""
        if adapter.held_out_loss is None:
            assert (adapter.campaign_id, adapter.number) not in self._book.held_out
            return
        results = [
            task.result
            for task in snapshot.tasks
            if task.kind is TaskKind.EVALUATE and task.round == adapter.number and task.state is TaskState.DONE
        ]
        metrics = [each["metrics"] for each in results if each is not None]
        tokens = sum(each["held_out_tokens"] for each in metrics)
        loss = sum(each["held_out_loss"] * each["held_out_tokens"] / tokens for each in metrics)
        np.testing.assert_allclose(adapter.held_out_loss, loss, rtol=1e-9)
        key = adapter.campaign_id, adapter.number
        assert self._book.held_out.setdefault(key, adapter.held_out_loss) == adapter.held_out_loss

    def _counted(self, snapshot: Snapshot) -> None:
        """No accepted update is lost: it counts in its round, counts late in the next, or waits for that round."""
        campaign = snapshot.campaign
        rule = campaign.spec.stragglers.late_updates
        for task in snapshot.train_tasks(TaskState.DONE):
            assert task.round is not None
            if task.counts_in is not None:
                assert task.counts_in - task.round in ((0, 1) if rule == "next_round" else (0,))
                assert task.counts_in <= campaign.rounds_closed + 1
            elif campaign.state is not CampaignState.CANCELLED:
                late = rule == "next_round" and task.round == campaign.rounds_closed
                assert late or task.round == campaign.rounds_closed + 1, "an accepted update was not counted"

    def _clients(self, snapshot: Snapshot) -> None:
        """Each client's committed update is its last update that counted."""
        numbers = sorted(snapshot.client_numbers.values())
        assert numbers == list(range(len(numbers)))
        book = self._book.closed[snapshot.campaign.id].get(snapshot.campaign.rounds_closed)
        for each in snapshot.participants:
            committed = (
                book.committed.get(each.client_number) if book is not None and each.client_number is not None else None
            )
            assert each.committed_update_sha256 == (committed.work.body["delta"] if committed is not None else None)

    def _stored(self, snapshot: Snapshot) -> None:
        """All blobs marked as stored exist, including the adapters that retention and running work need."""
        campaign = snapshot.campaign
        stored = [use for use in snapshot.uses if use.stored]
        assert {use.id for use in stored} == snapshot.present
        present = {(use.kind, use.round) for use in stored}
        if snapshot.adapters:
            needed = {0, campaign.rounds_closed} | {campaign.best_adapter} - {None}
            assert {(BlobKind.ADAPTER, number) for number in needed} <= present
        for task in snapshot.tasks:
            if task.state in LIVE_TASK and task.kind is TaskKind.EVALUATE:
                assert (BlobKind.ADAPTER, task.round) in present
            elif task.state in LIVE_TASK and task.kind is TaskKind.TRAIN:
                assert task.round is not None
                start = snapshot.adapters[task.round - 1]
                assert (BlobKind.ADAPTER, start.number) in present
                assert start.broadcast_sha256 is None or (BlobKind.BROADCAST, start.number) in present
        by_digest = {use.sha256 for use in stored}
        for task in snapshot.train_tasks(TaskState.DONE):
            waits = task.counts_in is None or task.counts_in == campaign.rounds_closed + 1
            if campaign.state is not CampaignState.CANCELLED and waits and task.result is not None:
                assert task.result["delta"] in by_digest, "the bytes of an update that is still to count are gone"

    def at_the_end(self, campaign_id: str) -> None:
        """The API agrees with the database and serves all stored adapters; other stored bytes are intact."""
        snapshot = self.after_step(campaign_id)
        operator, path = self._world.operator, f"/v1/campaigns/{campaign_id}"
        listed = operator.all_items(f"{path}/adapters", 3)
        assert [each["blob"]["sha256"] for each in listed] == [row.sha256 for row in snapshot.adapters]
        assert [[share["update_sha256"] for share in each["contributions"]] for each in listed] == [
            [share["update_sha256"] for share in row.contributions] for row in snapshot.adapters
        ]
        numbers = [each["number"] for each in operator.all_items(f"{path}/events", 500)]
        assert numbers == list(snapshot.events)
        for use in snapshot.uses:
            if use.stored:
                found = self._world.run(read_blob(self._world.services, use))
                assert hashlib.sha256(found).hexdigest() == use.sha256
                if use.kind is BlobKind.ADAPTER:
                    assert operator.http.get(f"/v1/blobs/{use.sha256}").content == found
        for adapter in snapshot.adapters:
            verified = self._world.run(verify_round(self._world.services, campaign_id, adapter.number))
            assert verified.outcome in (Outcome.VERIFIED, Outcome.NOT_KEPT), verified
        assert campaign_is_tidy(snapshot)


def campaign_is_tidy(snapshot: Snapshot) -> bool:
    """Whether nothing is stored beyond the campaign's retention."""
    keep, closed = snapshot.campaign.spec.retention, snapshot.campaign.rounds_closed
    oldest = closed - keep.updates + 1
    return all(
        use.round >= oldest and use.round <= closed
        for use in snapshot.uses
        if use.stored and use.kind in (BlobKind.DELTA, BlobKind.EXTRAS)
    )


def _recorded(adapter: AdapterRow, round_row: RoundRow | None) -> dict[str, Any]:
    """Fields of an adapter and its round that never change."""
    fields = ("sha256", "n_bytes", "broadcast_sha256", "state_sha256", "parent_sha256", "contributions", "created_at")
    recorded = {name: getattr(adapter, name) for name in fields}
    if round_row is not None:
        for name in ("state", "opened_at", "deadline_at", "closed_at", "learning_rate", "eligible", "sampled"):
            recorded[f"round {name}"] = getattr(round_row, name)
    return recorded
