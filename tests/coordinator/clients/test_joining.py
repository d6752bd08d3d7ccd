"""Agents that join a running campaign: who is invited, from which round they are clients, and the effect on sums."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.settings import Settings
from shared.digest import sha256_hex
from tests.support.driven import DEADLINE_S, DrivenCampaign, patient_settings
from tests.support.operator import Operator
from tests.support.scripted import FINGERPRINT, ScriptedAgent, slots_bytes
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import deep

Enroll = Callable[..., ScriptedAgent]
OTHER_BASE = {**FINGERPRINT, "weights": sha256_hex(b"other weights")}


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    return patient_settings


def numbers(campaign: DrivenCampaign) -> dict[str, tuple[int | None, int | None]]:
    """Client number and first round of all participants."""
    parts = campaign.detail()["participants"]
    return {part["agent_name"]: (part["client_number"], part["joined_round"]) for part in parts}


@pytest.mark.usefixtures("either_coordinator")
def test_agents_join_in_the_round_after_they_are_ready_numbered_by_name(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = (enroll(name, site="east") for name in ("ada", "bob"))
    selection = {"minimum": 2, "labels": {"site": "east"}}
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], {"ada": 10, "bob": 30}, selection=selection)
    campaign.train(ada)
    enroll("dan", site="west")
    zed, cyd = (enroll(name, site="east") for name in ("zed", "cyd"))
    zed.prepare(n_train=40)
    cyd.prepare(n_train=20)
    assert numbers(campaign) == {"ada": (0, 1), "bob": (1, 1), "cyd": (None, None), "zed": (None, None)}
    assert zed.ask(0).status_code == cyd.ask(0).status_code == 204
    campaign.train(bob)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1, 2, 3]
    assert campaign.shares(1) == {"ada": (0.25, 0), "bob": (0.75, 0)}
    assert numbers(campaign) == {"ada": (0, 1), "bob": (1, 1), "cyd": (2, 2), "zed": (3, 2)}
    assert {event["agent"] for event in campaign.events("agent-invited")} == {"ada", "bob", "cyd", "zed"}
    assert campaign.events("agent-joined") == [
        {"agent": "cyd", "client": 2, "round": 2},
        {"agent": "zed", "client": 3, "round": 2},
    ]
    for agent in (zed, cyd, bob, ada):
        campaign.train(agent)
    campaign.wait_until_closed(2)
    assert campaign.shares(2) == {"ada": (0.1, 0), "bob": (0.3, 0), "cyd": (0.2, 0), "zed": (0.4, 0)}
    assert campaign.digest(2) == campaign.digest_by_hand(2, campaign.shares(2))


def test_an_agent_that_is_slow_at_the_start_joins_later(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, slow = enroll("ada"), enroll("bob"), enroll("slow")
    campaign = DrivenCampaign(operator, tmp_path, deadline={"prepare_s": DEADLINE_S})
    for agent in (ada, bob):
        agent.prepare()
    coordinator.clock.move(DEADLINE_S + 1)
    campaign.init(ada)
    assert campaign.events("agent-joins-later") == [{"agent": "slow"}]
    assert campaign.wait_until_open(1)["sampled"] == [0, 1]
    slow.prepare()
    campaign.train(ada)
    campaign.train(bob)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1, 2]
    assert numbers(campaign)["slow"] == (2, 2)


@pytest.mark.parametrize("at_first", ["cannot get ready", "has another base model"])
@pytest.mark.usefixtures("coordinator")
def test_an_agent_that_could_not_join_is_asked_again_when_the_campaign_is_resumed(
    operator: Operator, enroll: Enroll, tmp_path: Path, at_first: str
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob])
    cyd = enroll("cyd")
    if at_first == "cannot get ready":
        cyd.failure(cyd.lease("prepare"), kind="base-model", message="set HF_TOKEN")
    else:
        cyd.prepare(fingerprint=OTHER_BASE)
    reason = (
        "set HF_TOKEN" if at_first == "cannot get ready" else "its base model differs from the others' in: weights;"
    )
    operator.wait_until(lambda: campaign.part("cyd")["reason"] or "", lambda found: found.startswith(reason))
    for agent in (ada, bob):
        campaign.train(agent)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1]
    if at_first == "has another base model":
        assert campaign.events("agent-mismatched") == [{"agent": "cyd", "parts": "weights"}]
    assert numbers(campaign)["cyd"] == (None, None)
    campaign.move("pause")
    campaign.move("resume")
    cyd.prepare()
    for agent in (ada, bob):
        campaign.train(agent)
    assert campaign.wait_until_open(3)["sampled"] == [0, 1, 2]
    assert numbers(campaign)["cyd"] == (2, 3)
    assert campaign.part("cyd")["reason"] is None


@pytest.mark.usefixtures("coordinator")
def test_an_agent_revoked_before_joining_gets_no_client_number(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob])
    for name in ("cyd", "dan"):
        enroll(name).prepare()
    operator.post("/v1/agents/cyd/revoke")
    for agent in (ada, bob):
        campaign.train(agent)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1, 2]
    assert numbers(campaign) == {"ada": (0, 1), "bob": (1, 1), "cyd": (None, None), "dan": (2, 2)}


@pytest.mark.usefixtures("coordinator")
def test_no_agent_is_invited_in_the_last_round_and_a_rollback_lets_agents_join_after_all(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], rounds=2)
    slow = enroll("slow")
    slow.lease("prepare")
    for agent in (ada, bob):
        campaign.train(agent)
    campaign.wait_until_open(2)
    late = enroll("late")
    assert late.ask(0.3).status_code == 204
    for agent in (ada, bob):
        campaign.train(agent)
    campaign.wait_for("completed")
    assert [task["state"] for task in campaign.tasks("slow", "prepare")] == ["cancelled"]
    assert "late" not in numbers(campaign)
    campaign.roll_back(0)
    campaign.move("resume")
    for agent in (slow, late):
        agent.prepare()
    for agent in (ada, bob):
        campaign.train(agent)
    assert campaign.wait_until_open(2)["sampled"] == [0, 1, 2, 3]
    assert (numbers(campaign)["late"], numbers(campaign)["slow"]) == ((2, 2), (3, 2))


# --- rounds that lack clients


def test_a_campaign_that_lost_its_clients_waits_for_new_ones_to_get_ready(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    deadline = {"round_s": DEADLINE_S, "prepare_s": DEADLINE_S}
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], rounds=2, deadline=deadline)
    campaign.train(bob)
    operator.post("/v1/agents/bob/revoke")
    campaign.train(ada)
    reason = "round 2 needs 2 clients, 1 are left; enrol more agents, or resume the campaign for another try"
    assert campaign.wait_for("paused")["reason"] == reason
    cyd = enroll("cyd")
    campaign.move("resume")
    campaign.wait_for_reason("round 2 needs 2 clients, 1 are left; waiting for cyd to prepare")
    either_coordinator.clock.move(DEADLINE_S + 1)
    campaign.wait_for("paused")
    campaign.move("resume")
    cyd.prepare()
    for agent in (ada, cyd):
        campaign.train(agent)
    assert campaign.wait_for("completed")["reason"] is None
    assert set(campaign.shares(2)) == {"ada", "cyd"}


@pytest.mark.parametrize("bob", ["fails again and again", deep("never answers")])
def test_a_round_short_of_clients_draws_agents_that_got_ready_since_it_opened(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, bob: str
) -> None:
    ada, silent = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, silent], rounds=1)
    campaign.train(ada)
    if bob == "never answers":
        cyd = enroll("cyd")
        coordinator.clock.move(DEADLINE_S + 1)
        cyd.prepare()
        coordinator.clock.move(DEADLINE_S + 1)
    else:
        silent.failure(silent.lease("train"), kind="crash", message="power cut")
        reason = "round 1 has 1 of at least 2 updates and no client left: bob: power cut"
        assert campaign.wait_for("paused")["reason"] == reason
        cyd = enroll("cyd")
        campaign.move("resume")
        silent.failure(silent.lease("train"), kind="crash", message="power cut")
        campaign.wait_for_reason(f"{reason}; waiting for cyd to prepare")
        cyd.prepare()
    campaign.train(cyd)
    campaign.wait_for("completed")
    assert set(campaign.shares(1)) == {"ada", "cyd"}
    assert numbers(campaign)["cyd"] == (2, 1)
    assert campaign.events("client-replaced")[-1] == {"round": 1, "agent": "cyd"}


# --- sums over client state


@pytest.mark.usefixtures("coordinator")
def test_scaffolds_c_stays_the_mean_over_all_clients_when_one_joins(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """c = Σ q_k c_k, computed by hand. Cyd brings as many rows as ada and bob have together, and a c_k of zero."""
    ada, bob = enroll("ada"), enroll("bob")
    rules: dict[str, Any] = {"algorithm": {"name": "scaffold"}, "rounds": 4, "retention": {"updates": 4}}
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], {"ada": 10, "bob": 30}, **rules)
    cyd = enroll("cyd")
    cyd.prepare(n_train=40)

    def train(*steps: tuple[ScriptedAgent, float]) -> None:
        for agent, delta_c in steps:
            campaign.train(agent, extras=slots_bytes(tmp_path, delta_c, "delta_c"))

    def broadcast() -> set[float]:
        c = campaign.tensors(ada.lease("train")["assignment"]["broadcast"]["sha256"], ada)
        return {float(value) for values in c.values() for value in np.unique(values)}

    train((ada, 1.0), (bob, 3.0))  # (10 · 1 + 30 · 3) / 40
    assert campaign.wait_until_open(2)["sampled"] == [0, 1, 2]
    assert broadcast() == {2.5}
    train((ada, 0.0), (bob, 0.0), (cyd, -1.0))  # (10 · 1 + 30 · 3 + 40 · -1) / 80
    campaign.wait_until_open(3)
    assert broadcast() == {0.75}
    second = campaign.digest(2)
    verified = operator.verify(campaign.id, 1, 2)
    assert [found["outcome"] for found in verified] == ["verified"] * 2

    campaign.roll_back(1)  # cyd is again a client from round 2 on
    campaign.move("resume")
    assert broadcast() == {2.5}
    train((ada, 0.0), (bob, 0.0), (cyd, -1.0))
    campaign.wait_until_open(3)
    assert (broadcast(), campaign.digest(2)) == ({0.75}, second)

    campaign.roll_back(0)  # now cyd is one from round 1 on
    campaign.move("resume")
    assert numbers(campaign)["cyd"] == (2, 1)
    train((ada, 1.0), (bob, 3.0), (cyd, -1.0))
    campaign.wait_until_open(2)
    assert broadcast() == {0.75}
