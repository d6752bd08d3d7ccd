"""What an agent offers: what its owner's settings allow and its data makes possible, told again when that changes."""

import logging
from pathlib import Path

import pytest

from agent.benchmarks.available import available
from agent.benchmarks.interface import Benchmarks
from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings
from tests.agent.benchmarks.parts import HearingCoordinator, measured_spec, write_data
from tests.agent.parts import campaign_spec, prepare_assignment
from tests.support.processes import wait_until

SPEC = measured_spec()


def waits_for(coordinator: HearingCoordinator, *names: str) -> None:
    wait_until(lambda: coordinator.offered[-1:] == [[*names]], f"the offer of {names}", 20)


def test_what_changes_is_told_at_the_next_look_and_only_then(
    coordinator: HearingCoordinator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    home = coordinator.enroll(tmp_path / "home")
    with home.running():
        assert coordinator.do(prepare_assignment(SPEC)).result
        assert coordinator.offered == [[]]  # said too: an earlier offer no longer stands
        coordinator.takes_part(SPEC)
        data = write_data(home)
        waits_for(coordinator, "fpb_likelihood", "tfns_likelihood")
        home.write_settings('[policy]\nsuites = ["fpb_likelihood", "medical"]\n')
        waits_for(coordinator, "fpb_likelihood")
        home.write_settings(f'[evaluation]\ndata = "{data.name}/nowhere"\n')
        waits_for(coordinator)
        n = len(coordinator.offers)
    reasons = [each.message for each in caplog.records if "is not offered" in each.message]
    assert len(reasons) == len(set(reasons))  # each is said once
    assert any("benchmark fiqa is not offered: put fiqa_scores/" in each for each in reasons)
    assert any("tfns_likelihood is not offered: policy.suites does not name it" in each for each in reasons)
    with home.running():  # once more after a restart: the coordinator may come from a backup
        wait_until(lambda: len(coordinator.offers) > n, "the offer after a restart", 20)
    assert coordinator.offers[n] == coordinator.offers[n - 1]


def test_an_offer_is_told_again_to_a_coordinator_that_was_restored(
    coordinator: HearingCoordinator, tmp_path: Path
) -> None:
    home = coordinator.enroll(tmp_path / "home")
    write_data(home)
    with home.running():
        assert coordinator.do(prepare_assignment(SPEC)).result
        coordinator.takes_part(SPEC)
        waits_for(coordinator, "fpb_likelihood", "tfns_likelihood")
        coordinator.looks(2)
        n = len(coordinator.offers)
        coordinator.campaigns = [{**each, "history": 7} for each in coordinator.campaigns]
        wait_until(lambda: len(coordinator.offers) > n, "the offer after a restore", 20)
        coordinator.looks(2)
    assert len(coordinator.offers) == n + 1
    assert coordinator.offers[n] == coordinator.offers[n - 1]


@pytest.mark.parametrize("participant", ["paused", "left", "waiting", "failed"])
def test_nothing_is_told_of_campaigns_in_which_it_takes_no_part(
    coordinator: HearingCoordinator, tmp_path: Path, participant: str
) -> None:
    home = coordinator.enroll(tmp_path / "home")
    with home.running():
        assert coordinator.do(prepare_assignment(SPEC)).result
    coordinator.takes_part(SPEC, participant)
    write_data(home)
    with home.running():
        assert coordinator.do(prepare_assignment(campaign_spec(name="other"), campaign_id="c2")).result
    assert coordinator.offered == [[]]


def test_a_campaign_without_benchmarks_gets_no_offer(coordinator: HearingCoordinator, tmp_path: Path) -> None:
    home = coordinator.enroll(tmp_path / "home")
    write_data(home)
    coordinator.takes_part(campaign_spec())
    with home.running():
        assert coordinator.do(prepare_assignment(campaign_spec())).result
    assert coordinator.offers == []


def test_by_default_nothing_is_offered_and_no_evaluation_is_imported() -> None:
    def make() -> Benchmarks:
        raise AssertionError

    found = available(AgentSettings(), SPEC.evaluation, make)
    assert found.offered == ()
    assert set(found.reasons) == set(SPEC.evaluation.benchmarks)


def test_an_agent_without_what_runs_benchmarks_offers_none() -> None:
    settings = AgentSettings(policy=PolicySettings(suites=["fpb_likelihood"]))
    found = available(settings, SPEC.evaluation, None)
    assert found.offered == ()
    assert "started without what runs them" in found.reasons["fpb_likelihood"]
    assert found.reasons["fiqa"] == "policy.suites does not name it"
