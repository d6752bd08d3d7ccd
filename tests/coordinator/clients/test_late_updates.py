"""Updates that arrive after their round has closed: the round and weight with which they count, and their end."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.engine import loop
from coordinator.engine.closing import AggregatedRound
from coordinator.services import Services
from coordinator.settings import Settings
from tests.support.driven import (
    LATE_COUNTS,
    NAMES,
    DrivenCampaign,
    late_in,
    miss_the_deadline,
    patient_settings,
    too_late_for,
)
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, slots_bytes
from tests.support.server import RunningCoordinator
from tests.support.stored import stored_bytes
from tests.support.suite.tiers import deep

Enroll = Callable[..., ScriptedAgent]


def wait_until_adapters_alone_are_kept(operator: Operator) -> None:
    kinds = operator.wait_until(
        lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found
    )
    assert set(kinds) == {"adapter"}


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


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

    campaign.train(cyd, late, train_loss_mean=4.5)
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
    verified = operator.verify(campaign.id, 1, 2, 3)
    assert [found["outcome"] for found in verified] == ["verified"] * 3


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

    async def sleepy(services: Services, campaign_id: str) -> AggregatedRound:
        if when == "while the round before is aggregated":
            asleep.set()
            await asyncio.to_thread(wake.wait, 60)
        return await aggregate_round(services, campaign_id)

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
    wait_until_adapters_alone_are_kept(operator)


def test_an_update_later_than_the_next_round_is_cancelled_and_recorded_as_a_failure(
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
    assert (first["state"], first["failure"]) == ("cancelled", too_late_for(2))
    assert (third["state"], third["round"]) == ("pending", 3)
    assert campaign.part("cyd")["failures_in_a_row"] == 1


def test_late_work_is_not_awaited_after_the_last_round_or_if_it_was_not_begun(
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
    assert [task["failure"] for task in campaign.tasks("cyd")] == [too_late_for(2)]


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
        deep("fails in the round", "is under way"),
        ("fails in the round", "has arrived"),
        deep("is silent in the round", "has arrived"),
    ],
)
def test_late_work_is_discarded_if_its_client_is_needed(
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
    if late_update == "has arrived":
        campaign.train(agents["cyd"], late)
    if bob == "fails in the round":
        agents["bob"].failure(agents["bob"].lease("train"), kind="crash", message="power cut")
    campaign.train(agents["ada"])
    if bob == "is silent in the round":
        miss_the_deadline(coordinator)
    [first, _] = operator.wait_until(lambda: campaign.tasks("cyd"), lambda found: len(found) == 2)
    assert first["state"] == ("superseded" if late_update == "has arrived" else "cancelled")
    assert campaign.train(agents["cyd"])["assignment"]["round"] == 2
    campaign.wait_for("completed")
    assert campaign.shares(2) == {"ada": (0.5, 0), "cyd": (0.5, 0)}
    assert campaign.digest(2) == campaign.digest_by_hand(2, campaign.shares(2))


@pytest.mark.parametrize("had_arrived", [True, False])
def test_a_revoked_clients_late_update_counts_only_if_it_had_arrived(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, had_arrived: bool
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
    if had_arrived:
        campaign.train(cyd, late)
    operator.post("/v1/agents/cyd/revoke")
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_for("completed")
    third = pytest.approx(1 / 3)
    in_time = {"ada": (third, 0), "bob": (third, 0), "cyd": (third, 1)}
    assert campaign.shares(2) == (in_time if had_arrived else {"ada": (0.5, 0), "bob": (0.5, 0)})


# --- late updates and the rest of the campaign


@pytest.mark.parametrize("late_update", ["is under way", "has arrived", "has counted"])
def test_a_rollback_to_the_round_that_it_was_late_in(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, late_update: str
) -> None:
    """Work that was under way when the round closed continues; everything after that is undone."""
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
    wait_until_adapters_alone_are_kept(operator)
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
    wait_until_adapters_alone_are_kept(operator)


def test_the_inputs_of_late_work_stay_stored_while_it_runs(
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
    begun_from = {late["assignment"][part]["sha256"] for part in ("adapter", "broadcast")}
    assert len(begun_from) == 2
    # the same collection releases everything else that is older than the last round
    operator.wait_until(lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found)
    assert {cyd.http.get(f"/v1/blobs/{sha256}").status_code for sha256 in begun_from} == {200}
    campaign.train(cyd, late, extras)
    campaign.train(ada, extras=extras)
    campaign.train(bob, extras=extras)
    campaign.wait_until_open(4)
    assert campaign.shares(3)["cyd"][1] == 1
    for sha256 in begun_from:
        operator.wait_until(lambda sha256=sha256: stored_bytes(either_coordinator, sha256), lambda found: not found)


def test_late_work_ends_when_scaffold_restarts(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """It started from a control variate that the restart discards for all clients."""
    ada, bob, cyd = agents = [enroll(name) for name in NAMES[:3]]
    extras = slots_bytes(tmp_path, 0.25, "delta_c")
    campaign = DrivenCampaign.begun(
        operator, tmp_path, agents, stragglers=LATE_COUNTS, algorithm={"name": "scaffold"}, rounds=4
    )
    for agent in agents:
        campaign.train(agent, extras=extras)
    late = cyd.lease("train")
    campaign.train(ada, extras=extras)
    campaign.train(bob, extras=extras, client_state_lost=True)
    miss_the_deadline(coordinator)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1, 2]
    assert cyd.renew(late).json()["directive"] == "cancel"
    assert campaign.events("algorithm-restarted") == [{"round": 2, "agents": ["bob"]}]
    again = cyd.lease("train")["assignment"]
    assert (again["round"], again["committed_update"], again["broadcast"]) == (3, None, None)
