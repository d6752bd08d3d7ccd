"""Slow, failing and late clients: whose updates count when, who is drawn instead, and who is set aside."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from coordinator.deps import Services
from coordinator.engine import loop, stragglers
from coordinator.engine.closing import ClosedRound
from coordinator.engine.step import Step
from coordinator.rounds.sampling import draw_order
from shared.campaign import CampaignSpec
from tests.support.driven import DEADLINE_S, DrivenCampaign, patient_settings
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body, slots_bytes
from tests.support.server import RunningCoordinator, running_coordinator

Enroll = Callable[..., ScriptedAgent]
NAMES = ("ada", "bob", "cyd", "dan", "eve")
LATE_COUNTS = {"late_updates": "next_round"}
TWO_OF_ALL = {"minimum": 2, "clients_per_round": 2}


@pytest.fixture
def coordinator(data_dir: Path) -> Iterator[RunningCoordinator]:
    with running_coordinator(patient_settings(data_dir)) as running:
        yield running


@pytest.fixture
def either_coordinator(data_dir: Path, database_url: str | None) -> Iterator[RunningCoordinator]:
    with running_coordinator(patient_settings(data_dir, database_url)) as running:
        yield running


def miss_the_deadline(coordinator: RunningCoordinator) -> None:
    coordinator.clock.move(DEADLINE_S + 1)


def late_in(number: int) -> dict[str, str]:
    return {"kind": "late", "message": f"it was not done by the deadline of round {number}"}


# --- late updates


def test_a_late_update_counts_in_the_next_round_with_less_weight(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    rows = {"ada": 10, "bob": 30, "cyd": 60}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rows, stragglers=LATE_COUNTS, retention={"updates": 3})
    late = cyd.lease("train")
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(either_coordinator)
    second = campaign.wait_until_open(2)
    assert second["eligible"] == second["sampled"] == [0, 1]
    assert campaign.shares(1) == {"ada": (0.25, 0), "bob": (0.75, 0)}
    assert cyd.renew(late).json()["directive"] == "continue"
    assert campaign.part("cyd")["failures_in_a_row"] == 0

    campaign.train(cyd, late, loss_mean=4.5)
    assert cyd.ask(0).status_code == 204
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_until_closed(2)
    # 10, 30 and 60 / √2, over their sum
    by_hand = {"ada": (0.12132034, 0), "bob": (0.36396103, 0), "cyd": (0.51471863, 1)}
    shares = campaign.shares(2)
    assert {name: (pytest.approx(weight, rel=1e-7), late) for name, (weight, late) in by_hand.items()} == shares
    assert campaign.digest(2) == campaign.digest_by_hand(2, shares)
    losses = operator.items(f"{campaign.path}/metrics", name="train_loss_mean", round=2)
    [whole] = [each["value"] for each in losses if each["client_number"] is None]
    assert whole == pytest.approx((1 - 0.51471863) * 1.5 + 0.51471863 * 4.5)

    for agent in agents:
        campaign.train(agent)
    campaign.wait_for("completed")
    assert campaign.shares(3) == {"ada": (0.1, 0), "bob": (0.3, 0), "cyd": (0.6, 0)}
    assert campaign.digest(3) == campaign.digest_by_hand(3, campaign.shares(3))
    outcomes = [operator.get(f"{campaign.path}/rounds/{number}/verification")["outcome"] for number in (1, 2, 3)]
    assert outcomes == ["verified"] * 3


@pytest.mark.parametrize("when", ["while the round before is aggregated", "in a pause"])
def test_a_late_update_may_come_at_any_time(
    either_coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    asleep, wake = threading.Event(), threading.Event()

    async def sleepy(at: Services, campaign_id: str) -> ClosedRound:
        if when == "while the round before is aggregated":
            asleep.set()
            await asyncio.to_thread(wake.wait, 60)
        return await aggregate_round(at, campaign_id)

    aggregate_round = loop.aggregate_round
    monkeypatch.setattr(loop, "aggregate_round", sleepy)
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=2, stragglers=LATE_COUNTS)
    late = cyd.lease("train")
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(either_coordinator)
    if when == "in a pause":
        campaign.wait_until_open(2)
        campaign.move("pause")
        campaign.train(cyd, late)
        campaign.move("resume")
    else:
        assert asleep.wait(60)
        campaign.train(cyd, late)
        wake.set()
        campaign.wait_until_open(2)
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_for("completed")
    assert {name: late for name, (_, late) in campaign.shares(2).items()} == {"ada": 0, "bob": 0, "cyd": 1}
    assert campaign.digest(2) == campaign.digest_by_hand(2, campaign.shares(2))
    kinds = operator.wait_until(
        lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found
    )
    assert set(kinds) == {"adapter"}


def test_what_is_later_than_the_next_round_is_taken_back_and_said(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, stragglers=LATE_COUNTS)
    late = cyd.lease("train")
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(coordinator)
    campaign.train(ada)
    campaign.train(bob)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1, 2]
    assert cyd.renew(late).json()["directive"] == "cancel"
    [first, third] = campaign.tasks("cyd")
    assert (first["state"], first["failure"]) == ("cancelled", late_in(2))
    assert (third["state"], third["round"]) == ("pending", 3)
    assert campaign.part("cyd")["failures_in_a_row"] == 1


def test_nobody_is_waited_for_after_the_last_round_nor_for_work_that_was_not_begun(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd, dan = agents = [enroll(name) for name in NAMES[:4]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=2, stragglers=LATE_COUNTS)
    cyd.lease("train")
    for number in (1, 2):
        campaign.train(ada)
        campaign.train(bob)
        if number == 2:
            late = dan.lease("train")
        miss_the_deadline(coordinator)
        campaign.wait_until_closed(number)
    campaign.wait_for("completed")
    assert [(task["round"], task["state"], task["failure"]) for task in campaign.tasks("dan")] == [
        (1, "cancelled", late_in(1)),
        (2, "cancelled", late_in(2)),
    ]
    assert dan.renew(late).json()["directive"] == "cancel"
    assert [task["failure"] for task in campaign.tasks("cyd")] == [late_in(2)]


def test_late_work_that_fails_is_a_failure_like_any_other(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    rules = {**LATE_COUNTS, "set_aside_after": 1, "set_aside_rounds": 3}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=4, stragglers=rules)
    late = cyd.lease("train")
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(coordinator)
    campaign.wait_until_open(2)
    cyd.failure(late, kind="crash", message="power cut")
    campaign.train(ada)
    campaign.train(bob)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1]
    assert campaign.events("agent-set-aside") == [{"agent": "cyd", "failures": 1, "until": 5}]


@pytest.mark.parametrize(
    ("bob", "late_update"),
    [
        ("is revoked before the round", "is under way"),
        ("fails in the round", "is under way"),
        ("fails in the round", "is there"),
        ("is silent in the round", "is there"),
    ],
)
def test_late_work_is_given_up_where_its_client_is_needed(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, bob: str, late_update: str
) -> None:
    agents = {name: enroll(name) for name in NAMES[:3]}
    campaign = DrivenCampaign.begun(operator, tmp_path, list(agents.values()), rounds=2, stragglers=LATE_COUNTS)
    late = agents["cyd"].lease("train")
    campaign.train(agents["ada"])
    campaign.train(agents["bob"])
    if bob == "is revoked before the round":
        operator.post("/v1/agents/bob/revoke")
    miss_the_deadline(coordinator)
    campaign.wait_until_open(2)
    if late_update == "is there":
        campaign.train(agents["cyd"], late)
    if bob == "fails in the round":
        agents["bob"].failure(agents["bob"].lease("train"), kind="crash", message="power cut")
    campaign.train(agents["ada"])
    if bob == "is silent in the round":
        miss_the_deadline(coordinator)
    [first, _] = operator.wait_until(lambda: campaign.tasks("cyd"), lambda found: len(found) == 2)
    assert first["state"] == ("superseded" if late_update == "is there" else "cancelled")
    assert campaign.train(agents["cyd"])["job"]["round"] == 2
    campaign.wait_for("completed")
    assert campaign.shares(2) == {"ada": (0.5, 0), "cyd": (0.5, 0)}
    assert campaign.digest(2) == campaign.digest_by_hand(2, campaign.shares(2))


@pytest.mark.parametrize("was_there", [True, False])
def test_a_revoked_clients_late_update_counts_only_where_it_was_there(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, was_there: bool
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(
        operator, tmp_path, agents, rounds=2, stragglers={**LATE_COUNTS, "staleness_exponent": 0}
    )
    late = cyd.lease("train")
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(coordinator)
    campaign.wait_until_open(2)
    if was_there:
        campaign.train(cyd, late)
    operator.post("/v1/agents/cyd/revoke")
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_for("completed")
    third = pytest.approx(1 / 3)
    in_time = {"ada": (third, 0), "bob": (third, 0), "cyd": (third, 1)}
    assert campaign.shares(2) == (in_time if was_there else {"ada": (0.5, 0), "bob": (0.5, 0)})


# --- late updates and the rest of the campaign


@pytest.mark.parametrize("late_update", ["is under way", "is there", "has counted"])
def test_a_rollback_to_the_round_that_it_was_late_in(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, late_update: str
) -> None:
    """What is under way goes on, as it did when that round closed; what came since then is undone."""
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, stragglers=LATE_COUNTS)
    late = cyd.lease("train")
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(either_coordinator)
    campaign.wait_until_open(2)
    if late_update != "is under way":
        campaign.train(cyd, late)
    if late_update == "has counted":
        campaign.train(ada)
        campaign.train(bob)
        campaign.wait_until_open(3)
    campaign.roll_back(1)
    kinds = operator.wait_until(
        lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found
    )
    assert set(kinds) == {"adapter"}
    campaign.move("resume")
    if late_update == "is under way":
        assert campaign.wait_until_open(2)["sampled"] == [0, 1]
        campaign.train(cyd, late)
    else:
        assert campaign.tasks("cyd")[0]["state"] == "superseded"
        assert campaign.wait_until_open(2)["sampled"] == [0, 1, 2]
        campaign.train(cyd)
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_until_closed(2)
    staleness = {name: rounds_late for name, (_, rounds_late) in campaign.shares(2).items()}
    assert staleness == {"ada": 0, "bob": 0, "cyd": int(late_update == "is under way")}
    assert campaign.digest(2) == campaign.digest_by_hand(2, campaign.shares(2))


def test_a_cancelled_campaign_keeps_no_late_update(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = ada, bob, cyd, dan = [enroll(name) for name in NAMES[:4]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, stragglers=LATE_COUNTS)
    late = [agent.lease("train") for agent in (cyd, dan)]
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(coordinator)
    campaign.wait_until_open(2)
    campaign.train(cyd, late[0])
    campaign.move("cancel")
    assert dan.renew(late[1]).json()["directive"] == "cancel"
    kinds = operator.wait_until(
        lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found
    )
    assert set(kinds) == {"adapter"}


def test_what_late_work_began_from_stays_for_as_long_as_it_is_under_way(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    extras = slots_bytes(tmp_path, 0.25, "delta_c")
    rules = {"algorithm": {"name": "scaffold"}, "retention": {"adapters": 1, "server_state": 1}, "rounds": 4}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, stragglers=LATE_COUNTS, **rules)
    for agent in agents:
        campaign.train(agent, extras=extras)
    late = cyd.lease("train")
    campaign.train(ada, extras=extras)
    campaign.train(bob, extras=extras)
    miss_the_deadline(either_coordinator)
    campaign.wait_until_open(3)
    begun_from = {late["job"][part]["sha256"] for part in ("adapter", "broadcast")}
    assert len(begun_from) == 2
    # what else is older than the last round is let go in the same stroke
    operator.wait_until(lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found)
    assert {cyd.http.get(f"/v1/blobs/{sha256}").status_code for sha256 in begun_from} == {200}
    campaign.train(cyd, late, extras)
    campaign.train(ada, extras=extras)
    campaign.train(bob, extras=extras)
    campaign.wait_until_open(4)
    assert campaign.shares(3)["cyd"][1] == 1
    for sha256 in begun_from:
        operator.wait_until(lambda sha256=sha256: campaign.blob(sha256).status_code, lambda found: found == 404)


def test_late_work_ends_where_scaffold_starts_again(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """It was begun with a control variate that all start again without."""
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    extras = slots_bytes(tmp_path, 0.25, "delta_c")
    campaign = DrivenCampaign.begun(
        operator, tmp_path, agents, stragglers=LATE_COUNTS, algorithm={"name": "scaffold"}, rounds=4
    )
    for agent in agents:
        campaign.train(agent, extras=extras)
    late = cyd.lease("train")
    campaign.train(ada, extras=extras)
    campaign.train(bob, extras=extras, lost_state=True)
    miss_the_deadline(coordinator)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1, 2]
    assert cyd.renew(late).json()["directive"] == "cancel"
    assert campaign.events("algorithm-restarted") == [{"round": 2, "lost_state": ["bob"]}]
    again = cyd.lease("train")["job"]
    assert (again["round"], again["counted"], again["broadcast"]) == (3, None, None)


# --- over-selection


@pytest.mark.parametrize(
    ("clients_per_round", "over_selection", "n_eligible", "n_drawn"),
    [(10, 0.3, 100, 13), (10, 0.1, 100, 11), (10, 0.11, 100, 12), (10, 0.3, 12, 12), (10, 0.0, 100, 10), (3, 1, 2, 2)],
)
def test_how_many_are_drawn(clients_per_round: int, over_selection: float, n_eligible: int, n_drawn: int) -> None:
    selection = {"clients_per_round": clients_per_round}
    body = campaign_body(selection=selection, stragglers={"over_selection": over_selection})
    step = Step(cast("Any", None), cast("Any", None), CampaignSpec.model_validate(body), cast("Any", None))
    assert stragglers.drawn(step, n_eligible) == n_drawn
    assert stragglers.wanted(step, n_eligible) == min(clients_per_round, n_eligible)


@pytest.mark.usefixtures("either_coordinator")
def test_of_the_clients_drawn_the_first_to_be_done_count(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in NAMES]
    rules = {"over_selection": 0.5, "set_aside_after": 1}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers=rules)
    first, second, third = (agents[client] for client in draw_order(0, 1, range(5))[:3])
    assert campaign.wait_until_open(1)["sampled"] == sorted(draw_order(0, 1, range(5))[:3])
    slow = second.lease("train")
    campaign.train(third)
    campaign.train(first)
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {first.name, third.name}
    assert second.renew(slow).json()["directive"] == "cancel"
    [task] = campaign.tasks(second.name)
    assert (task["state"], task["failure"]) == ("cancelled", None)  # it missed no deadline
    assert campaign.part(second.name)["failures_in_a_row"] == 0


@pytest.mark.usefixtures("coordinator")
def test_failures_are_replaced_once_too_few_are_left(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in NAMES]
    campaign = DrivenCampaign.begun(
        operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers={"over_selection": 0.5}
    )
    first, second, third, fourth, _ = (agents[client] for client in draw_order(0, 1, range(5)))
    first.failure(first.lease("train"), kind="crash", message="power cut")
    assert fourth.ask(0.3).status_code == 204
    second.failure(second.lease("train"), kind="crash", message="flood")
    campaign.train(fourth)
    campaign.train(third)
    campaign.wait_for("completed")
    assert campaign.events("client-drawn-instead") == [{"round": 1, "agent": fourth.name}]
    assert set(campaign.shares(1)) == {third.name, fourth.name}


@pytest.mark.usefixtures("coordinator")
def test_who_was_drawn_beyond_need_may_count_in_the_next_round(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES]
    rules = {**LATE_COUNTS, "over_selection": 0.5}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=2, selection=TWO_OF_ALL, stragglers=rules)
    drawn = draw_order(0, 1, range(5))[:3]
    first, second, third = (agents[client] for client in drawn)
    slow = third.lease("train")
    campaign.train(first)
    campaign.train(second)
    left = [client for client in range(5) if client != drawn[2]]
    expected = draw_order(0, 2, left)[:3]
    assert campaign.wait_until_open(2)["sampled"] == sorted(expected)
    campaign.train(third, slow)
    for client in expected[:2]:
        campaign.train(agents[client])
    campaign.wait_for("completed")
    assert campaign.shares(2)[third.name] == (pytest.approx(0.5**0.5 / (2 + 0.5**0.5)), 1)
    assert campaign.digest(2) == campaign.digest_by_hand(2, campaign.shares(2))


# --- too few updates at the deadline


def test_with_replace_each_deadline_gives_missing_work_to_others_while_there_are_any(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES[:4]]
    rules = {"under_minimum": "replace"}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers=rules)
    slow, done, third, fourth = (agents[client] for client in draw_order(0, 1, range(4)))
    leases = [slow.lease("train")]
    campaign.train(done)
    for spare in (third, fourth):
        miss_the_deadline(either_coordinator)
        leases.append(spare.lease("train"))
    miss_the_deadline(either_coordinator)
    extended = {"round": 1, "taken_back": 1}
    told = operator.wait_until(lambda: campaign.events("round-extended"), lambda found: len(found) == 3)
    assert told == [extended, extended, {"round": 1, "taken_back": 0}]
    for agent, lease in zip((slow, third), leases, strict=False):
        assert agent.renew(lease).json()["directive"] == "cancel"
        assert [task["failure"] for task in campaign.tasks(agent.name)] == [late_in(1)]
    campaign.train(fourth, leases[2])
    campaign.wait_for("completed")
    assert campaign.events("client-drawn-instead") == [{"round": 1, "agent": each.name} for each in (third, fourth)]
    assert set(campaign.shares(1)) == {done.name, fourth.name}
    failures = {each["agent_name"]: each["failures_in_a_row"] for each in campaign.detail()["participants"]}
    assert failures == {slow.name: 1, third.name: 1, done.name: 0, fourth.name: 0}


def test_as_many_are_drawn_as_work_was_taken_back(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in NAMES]
    rules = {"over_selection": 0.5}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, selection=TWO_OF_ALL, stragglers=rules)
    *_, fourth, fifth = (agents[client] for client in draw_order(0, 1, range(5)))
    campaign.wait_until_open(1)
    miss_the_deadline(coordinator)
    campaign.train(fourth)
    campaign.train(fifth)
    campaign.wait_for("completed")
    assert campaign.events("round-extended") == [{"round": 1, "taken_back": 2}]


def test_with_fail_the_campaign_is_paused_and_resuming_gives_another_deadline(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    rules = {"under_minimum": "fail", "set_aside_after": 1}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=1, stragglers=rules)
    campaign.train(ada)
    bob.failure(bob.lease("train"), kind="crash", message="power cut")
    slow = cyd.lease("train")
    miss_the_deadline(either_coordinator)
    reason = campaign.wait_for("paused")["reason"]
    assert reason == "round 1 has 1 of at least 2 updates at its deadline: bob: power cut"
    assert cyd.renew(slow).json()["directive"] == "continue"
    assert bob.ask(0).status_code == 204
    campaign.move("resume")
    campaign.train(bob)  # whatever was wrong may be mended
    campaign.train(cyd, slow)
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {"ada", "bob", "cyd"}
    assert campaign.part("bob")["failures_in_a_row"] == 0


# --- who is set aside


def test_who_fails_round_after_round_is_not_drawn_for_a_while(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """Cyd never answers. Dan fails every other round, which is not in a row."""
    ada, bob, _, dan = agents = [enroll(name) for name in NAMES[:4]]
    rules = {"set_aside_after": 2, "set_aside_rounds": 2}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, rounds=7, stragglers=rules)
    for number in range(1, 8):
        campaign.train(ada)
        campaign.train(bob)
        if number % 2:
            dan.failure(dan.lease("train"), kind="crash", message="power cut")
        else:
            campaign.train(dan)
        if number in (1, 2, 5):  # cyd is waited for
            assert campaign.wait_until_open(number)["sampled"] == [0, 1, 2, 3]
            miss_the_deadline(either_coordinator)
        campaign.wait_until_closed(number)
        if number == 2:
            cyd = campaign.part("cyd")
            assert (cyd["failures_in_a_row"], cyd["set_aside_until"]) == (2, 4)
    campaign.wait_for("completed")
    eligible = [round_row["eligible"] for round_row in campaign.rounds()]
    assert [2 in those for those in eligible] == [True, True, False, False, True, False, False]
    assert all({0, 1, 3} <= set(those) for those in eligible)
    assert campaign.events("agent-set-aside") == [
        {"agent": "cyd", "failures": 2, "until": 4},
        {"agent": "cyd", "failures": 3, "until": 7},
    ]
    assert [task["failure"] for task in campaign.tasks("cyd")] == [late_in(number) for number in (1, 2, 5)]
    dans = campaign.part("dan")
    assert (dans["failures_in_a_row"], dans["set_aside_until"]) == (1, None)


@pytest.mark.parametrize("bob", ["is revoked", "fails", "is silent"])
def test_who_is_set_aside_is_back_where_the_minimum_needs_it(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, bob: str
) -> None:
    agents = {name: enroll(name) for name in NAMES[:3]}
    rules = {"set_aside_after": 1, "set_aside_rounds": 9}
    campaign = DrivenCampaign.begun(operator, tmp_path, list(agents.values()), rounds=3, stragglers=rules)
    campaign.train(agents["ada"])
    campaign.train(agents["bob"])
    miss_the_deadline(coordinator)
    assert campaign.wait_until_open(2)["eligible"] == [0, 1]
    assert campaign.part("cyd")["set_aside_until"] == 10
    if bob == "is revoked":
        campaign.train(agents["bob"])
        operator.post("/v1/agents/bob/revoke")
        campaign.train(agents["ada"])
        assert campaign.wait_until_open(3)["sampled"] == [0, 2]
    elif bob == "fails":
        agents["bob"].failure(agents["bob"].lease("train"), kind="crash", message="power cut")
        campaign.train(agents["ada"])
    else:
        campaign.train(agents["ada"])
        miss_the_deadline(coordinator)
    campaign.train(agents["cyd"])
    if bob != "is revoked":
        campaign.wait_until_closed(2)
        assert campaign.events("client-drawn-instead") == [{"round": 2, "agent": "cyd"}]
        assert set(campaign.shares(2)) == {"ada", "cyd"}
        back = campaign.part("cyd")
        assert (back["failures_in_a_row"], back["set_aside_until"]) == (0, None)


def test_nobody_waits_for_an_evaluation_of_who_is_set_aside(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, _ = agents = [enroll(name) for name in NAMES[:3]]
    rules = {"stragglers": {"set_aside_after": 1}, "evaluation": {"every": 1}}
    campaign = DrivenCampaign(operator, tmp_path, rounds=2, **rules)
    for agent in agents:
        agent.prepare(n_held_out=5)
    campaign.init(ada)
    for number in (0, 1):
        for agent in (ada, bob):
            agent.evaluate(2.0)
            campaign.train(agent)
        if number == 0:
            miss_the_deadline(coordinator)
    for agent in (ada, bob):
        agent.evaluate(1.0)
    campaign.wait_for("completed")
    assert [task["round"] for task in campaign.tasks("cyd", "evaluate")] == [0]
    assert operator.get(f"{campaign.path}/adapters/2")["held_out_loss"] == 1.0


def test_resuming_takes_back_everybody(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, _ = agents = [enroll(name) for name in NAMES[:3]]
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, stragglers={"set_aside_after": 1})
    campaign.train(ada)
    campaign.train(bob)
    miss_the_deadline(coordinator)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1]
    campaign.move("pause")
    campaign.move("resume")
    assert campaign.part("cyd")["failures_in_a_row"] == 0
    campaign.train(ada)
    campaign.train(bob)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1, 2]
