"""The rules: each makes one step, or several that usually go together. Invariants are checked after each."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.owners_word import STATES
from shared.states import CampaignState, TaskState
from shared.wire.agents import Part
from shared.wire.tasks.leases import FailureKind
from tests.faults.interleavings.books import Book
from tests.faults.interleavings.checks import Checks
from tests.faults.interleavings.owners import Lease, Owner
from tests.faults.interleavings.snapshot import Snapshot, unreferenced
from tests.faults.interleavings.steps import Steps
from tests.faults.interleavings.world import DEADLINE_S, World
from tests.support.scripted import campaign_body

MOST_TURNS = 60
"""Turns within which a campaign must end if every participant works correctly."""

CAMPAIGN = st.fixed_dictionaries(
    {
        "rounds": st.sampled_from([3, 2, 4]),
        "algorithm": st.sampled_from(["scaffold", "fedavg", "fedavgm"]).map(lambda name: {"name": name}),
        "selection": st.sampled_from(
            [
                {"minimum": 1},
                {"minimum": 2},
                {"minimum": 1, "clients_per_round": 1},
                {"minimum": 1, "clients_per_round": 2},
            ]
        ),
        "stragglers": st.fixed_dictionaries(
            {
                "late_updates": st.sampled_from(["next_round", "next_round", "drop"]),
                "under_minimum": st.sampled_from(["extend", "replace", "fail"]),
                "over_selection": st.sampled_from([1, 0]),
                "set_aside_after": st.sampled_from([1, 3]),
                "set_aside_rounds": st.sampled_from([0, 2]),
            }
        ),
        "retention": st.fixed_dictionaries(
            {
                "updates": st.sampled_from([9, 0, 1]),
                "adapters": st.sampled_from(["all", 1]),
                "server_state": st.sampled_from([5, 1]),
            }
        ),
        "evaluation": st.sampled_from([{"every": 0}, {"every": 1}]),
        "weighting": st.sampled_from([{"by": "examples"}, {"by": "uniform"}]),
    }
)
SOMEBODY = st.integers(0, 3)
A_LEASE = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5])
"""Index of a lease: those that may be live first, each group from the newest."""
AFTERWARDS = st.sampled_from(["tick", "tick", "aggregate", "nothing"])
"""Whether an engine ticks afterwards, and whether it falls asleep during the aggregation."""
A_VARIANT = st.sampled_from([0, 0, 0, 1])
"""Variant of an owner's training: it may have lost its result and trained to a different one."""


def has_leases(machine: "Interleavings") -> bool:
    return bool(machine.steps.leases)


class Interleavings(RuleBasedStateMachine):
    """Owners, an operator, engines and a sweeper in any order, on one or two campaigns."""

    def __init__(self, world: World) -> None:
        super().__init__()
        world.n_examples += 1
        self.world, self.book = world, Book()
        self.steps = Steps(world, self.book, world.n_examples)
        self.checks = Checks(world, self.book, self.steps.owners)
        self.snapshots: dict[str, Snapshot] = {}
        self.restarts, self.cancels = 1, 0
        self.further: list[dict[str, Any]] = []
        self.unreferenced_before = world.run(unreferenced(world.services))

    @initialize(
        campaign=CAMPAIGN,
        further=st.lists(CAMPAIGN, max_size=1),
        n_owners=st.integers(2, 4),
        is_begun=st.sampled_from([True, True, False]),
        cancels=st.sampled_from([0, 0, 1]),
    )
    def begin(
        self, campaign: dict[str, Any], further: list[dict[str, Any]], n_owners: int, is_begun: bool, cancels: int
    ) -> None:
        self.further, self.cancels = further, cancels
        for _ in range(n_owners):
            self.steps.join()
        self._create(campaign)
        for _ in range(3 if is_begun else 0):  # until the first round is open
            self.world.tick()
            if not any(lease.kind == "init" for lease in self.steps.leases):
                self.steps.all_work()

    def _create(self, campaign: dict[str, Any]) -> None:
        stragglers = dict(campaign["stragglers"])
        if "clients_per_round" not in campaign["selection"]:
            stragglers["over_selection"] = 0
        changes = {
            "selection": {**campaign["selection"], "labels": self.steps.labels},
            "stragglers": stragglers,
            "deadline": {"round_s": DEADLINE_S, "prepare_s": DEADLINE_S},
        }
        body = campaign_body(**{**campaign, **changes})
        self.book.begin(self.world.operator.post("/v1/campaigns", body)["id"], body)

    def _owner(self, number: int) -> Owner:
        return self.steps.owners[number % len(self.steps.owners)]

    def _lease(self, number: int) -> Lease:
        newest_first = self.steps.leases[::-1]
        alive = [lease for lease in newest_first if self.book.may_live(lease)]
        others = [lease for lease in newest_first if lease not in alive]
        return [*alive, *others][number % len(newest_first)]

    # the coordinator

    @rule(n_engines=st.sampled_from([1, 1, 2]))
    def tick(self, n_engines: int) -> None:
        self.world.tick(n_engines)

    @precondition(lambda self: not self.world.has_sleeper)
    @rule(before=st.sampled_from(["close round", "tick"]))
    def an_engine_falls_asleep(self, before: str) -> None:
        self.world.tick_and_fall_asleep(before)

    @precondition(lambda self: self.world.has_sleeper)
    @rule(dies=st.sampled_from([False, False, True]))
    def it_wakes(self, dies: bool) -> None:
        self.world.wake_engine(dies=dies)

    @rule(units=st.sampled_from([1, 1, 2, 4, 24]), sweeps=st.booleans())
    def time_passes(self, units: int, sweeps: bool) -> None:
        self.world.move_clock(units)
        if sweeps:
            self.world.sweep()

    # owners

    @rule(who=SOMEBODY, process=st.sampled_from([0, 0, 0, 1]))
    def acquire(self, who: int, process: int) -> None:
        """Ask for work as the owner's usual process or as another."""
        self.steps.ask(self._owner(who), process)

    @precondition(has_leases)
    @rule(which=A_LEASE, variant=A_VARIANT, half=st.booleans())
    def upload(self, which: int, variant: int, half: bool) -> None:
        self.steps.upload(self._lease(which), variant, half=half)

    @precondition(has_leases)
    @rule(which=A_LEASE, variant=A_VARIANT, at_once=st.sampled_from([1, 1, 2]))
    def complete(self, which: int, variant: int, at_once: int) -> None:
        self.steps.complete(self._lease(which), variant, at_once=at_once)

    @precondition(has_leases)
    @rule(which=A_LEASE, variant=A_VARIANT)
    def finish(self, which: int, variant: int) -> None:
        self.steps.upload(self._lease(which), variant)
        self.steps.complete(self._lease(which), variant)

    @precondition(has_leases)
    @rule(
        which=A_LEASE,
        how=st.sampled_from(["renew", "release", "fail", "hold", "two results", "wrong chunk", "bad update"]),
    )
    def do_otherwise(self, which: int, how: str) -> None:
        ways: dict[str, Callable[[Lease], None]] = {
            "renew": self.steps.renew,
            "release": self.steps.release,
            "fail": self.steps.fail,
            "hold": self.steps.hold,
            "two results": self.steps.send_two_results,
            "wrong chunk": self.steps.send_wrong_chunks,
            "bad update": self.steps.send_bad_update,
        }
        ways[how](self._lease(which))

    @rule(who=SOMEBODY, part=st.sampled_from([Part.TAKES_PART, Part.TAKES_PART, Part.PAUSED, Part.LEFT]))
    def an_owner_says(self, who: int, part: Part) -> None:
        for campaign_id in self.book.bodies:
            self.steps.say(self._owner(who), campaign_id, part)

    @precondition(has_leases)
    @rule(which=A_LEASE)
    def an_owner_holds(self, which: int) -> None:
        self.steps.hold(self._lease(which))

    @rule(who=SOMEBODY)
    def an_owner_lets_go(self, who: int) -> None:
        self.steps.let_go(self._owner(who))

    @precondition(has_leases)
    @rule(which=A_LEASE, kind=st.sampled_from(sorted(STATES)))
    def an_agent_answers_for_its_owner(self, which: int, kind: FailureKind) -> None:
        self.steps.answer_for_owner(self._lease(which), kind)

    @rule(then=AFTERWARDS)
    def all_work(self, then: str) -> None:
        """All owners do all available tasks."""
        self.steps.all_work()
        self._afterwards(then)

    @rule(who=SOMEBODY, then=AFTERWARDS)
    def one_is_slow(self, who: int, then: str) -> None:
        """One owner has begun, all others have finished, and the deadline passes."""
        self.steps.ask(self._owner(who))
        self.steps.all_work(but=self._owner(who))
        self.world.move_clock(1)
        self._afterwards(then)

    def _afterwards(self, then: str) -> None:
        if then == "tick":
            self.world.tick()
        elif then == "aggregate" and not self.world.has_sleeper:
            self.world.tick_and_fall_asleep("close round")

    # the operator, and mishaps

    @rule(
        what=st.sampled_from(["roll back", "pause or resume", "join", "revoke", "begin", "cancel", "finish"]),
        number=SOMEBODY,
    )
    def operate(self, what: str, number: int) -> None:
        if what == "pause or resume":
            for campaign_id, snapshot in self.snapshots.items():
                if snapshot.campaign.state is CampaignState.PAUSED:
                    self.world.operator.campaign(campaign_id, "resume")
                elif number == 0:  # less often, for little happens then
                    self.world.operator.campaign(campaign_id, "pause")
        elif what == "roll back":
            for campaign_id, snapshot in self.snapshots.items():
                self.steps.roll_back(campaign_id, max(0, snapshot.campaign.rounds_closed - number // 2))
                if number != 0:
                    self.world.operator.campaign(campaign_id, "resume")
        elif what == "join" and len(self.steps.owners) < 5:
            self.steps.join()
        elif what == "revoke" and len(self.steps.active) > 2:
            self.steps.revoke(self._owner(number))
        elif what == "begin" and self.further:
            self._create(self.further.pop())
        elif what == "cancel" and self.cancels:
            self.cancels -= 1
            self.world.operator.campaign(next(iter(self.book.bodies)), what)
        elif what == "finish" and number == 0:  # less often, for little happens afterwards
            for campaign_id in self.book.bodies:
                self.steps.finish_early(campaign_id)

    @rule(what=st.sampled_from(["a state is lost", "the clock is set back", "restart"]), number=SOMEBODY)
    def something_happens(self, what: str, number: int) -> None:
        if what == "a state is lost":
            self._owner(number).client_states.clear()
        elif what == "the clock is set back":
            self.world.move_clock(-8)
        elif self.restarts:
            self.restarts -= 1
            self.world.restart()
            for owner in self.steps.owners:
                owner.agent.http.base_url = self.world.url

    # invariants

    @invariant()
    def check(self) -> None:
        self.world.check_errors()
        self.snapshots = {campaign_id: self.checks.after_step(campaign_id) for campaign_id in self.book.bodies}
        at_work = Counter(
            task.agent_id
            for snapshot in self.snapshots.values()
            for task in snapshot.tasks
            if task.state is TaskState.LEASED
        )
        assert max(at_work.values(), default=0) <= 1

    def teardown(self) -> None:
        has_failed = sys.exc_info()[0] is not None  # in a step, whose error must not be hidden
        try:
            self.world.wake_engine()
            if self.snapshots and not has_failed:
                self._end()
        finally:
            self._leave()

    def _end(self) -> None:
        """Check that every campaign ends if all participants work correctly, and that nothing is left over."""
        for _ in range(MOST_TURNS):
            self.check()
            if all(snapshot.campaign.state.is_final for snapshot in self.snapshots.values()):
                break
            self._take_a_turn()
        else:
            raise AssertionError(f"no end: {[snapshot.campaign.reason for snapshot in self.snapshots.values()]}")
        self.world.move_clock(24)  # abandoned uploads become stale; leftovers of dead engines are swept
        self.world.sweep()
        for campaign_id in self.book.bodies:
            self.checks.at_the_end(campaign_id)
        left = self.world.run(unreferenced(self.world.services)) - self.unreferenced_before
        assert not left, "unreferenced data is stored"

    def _take_a_turn(self) -> None:
        for campaign_id, snapshot in self.snapshots.items():
            for owner in self.steps.active:
                if snapshot.state_of(owner.name) in STATES.values():
                    self.steps.say(owner, campaign_id, Part.TAKES_PART)
            if snapshot.campaign.state is CampaignState.PAUSED:
                self.world.operator.campaign(campaign_id, "resume")
        for owner in self.steps.active:
            self.steps.let_go(owner)
        n_accepted = len(self.book.accepted)
        self.world.tick()
        self.steps.all_work()
        self.world.tick()
        self.world.sweep()
        if len(self.book.accepted) == n_accepted:
            self.world.move_clock(4)

    def _leave(self) -> None:
        """End everything, so that the next example starts without work."""
        for campaign_id in self.book.bodies:
            self.world.operator.campaign(campaign_id, "cancel")
        for owner in self.steps.owners:
            self.world.operator.http.post(f"/v1/agents/{owner.id}/revoke")
            owner.agent.http.close()
        self.world.sweep()
