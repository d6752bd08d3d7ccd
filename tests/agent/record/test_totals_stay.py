"""Totals over restarts, over a new enrolment in the same home, and over kill -9: they never go down."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.main import enroll
from agent.record.bookings import Totals
from tests.agent.owner import Owner
from tests.agent.parts import prepare_assignment, train_assignment
from tests.agent.scripted_coordinator import ScriptedCoordinator, scripted_coordinator
from tests.support.operator import Operator
from tests.support.processes import RECORDED_CHILD, QuickAgent, ended
from tests.support.scripted import FINGERPRINT
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import deep

ONE_TRAINING = Totals(n_trainings=1, steps=5, n_rows=10)


def test_totals_stay_over_restarts(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        owner = Owner(tmp_path / "home", max_rounds=3)
        owner.prepare()
        owner.train(round=number)
        assert owner.record.bookings.of_campaign("c1").n_trainings == number
    last = Owner(tmp_path / "home", max_rounds=3)
    assert "it is training 4 for this campaign" in last.by_policy(train_assignment(round=1, history=1))


def test_totals_stay_over_a_new_enrolment_in_the_same_home(
    coordinator: RunningCoordinator, operator: Operator, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    enroll(home, coordinator.url, operator.token(), "ada")
    owner = Owner(home, max_campaigns=1)
    owner.prepare(campaign_id="c1")
    owner.train(campaign_id="c1")
    (home / "identity.json").unlink()
    enroll(home, coordinator.url, operator.token(), "another-name")
    again = Owner(home, max_campaigns=1)
    said = again.by_policy(prepare_assignment(campaign_id="c2"))
    assert said == "it is campaign 2 in 30 days that uses these rows, and policy.max_campaigns = 1"
    assert again.record.bookings.of_campaign("c1") == ONE_TRAINING


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[ScriptedCoordinator]:
    with scripted_coordinator(tmp_path) as served:
        yield served


@pytest.mark.fault
@pytest.mark.parametrize(
    ("point", "booked"),
    [
        deep("agent: before booking", Totals()),
        ("agent: booked", ONE_TRAINING),
        deep("agent: training", ONE_TRAINING),
        deep("agent: result there", ONE_TRAINING),
        deep("agent: ended", ONE_TRAINING),
    ],
)
def test_a_kill_takes_no_booking_back_and_adds_none(
    scripted: ScriptedCoordinator, tmp_path: Path, point: str, booked: Totals
) -> None:
    home = scripted.enroll(tmp_path / "home")
    bookings = home.workspace.record.bookings
    agent = QuickAgent(home.folder, RECORDED_CHILD)
    with ended(agent):
        agent.start()
        scripted.do(prepare_assignment())
        agent.process.stop()
        agent.environment = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(tmp_path / "notes")}
        agent.start()
        training = scripted.hand_out(train_assignment(fingerprint=FINGERPRINT, adapter=scripted.adapter_ref))
        assert agent.process.popen.wait(30) == -signal.SIGKILL, agent.process.printed()
        assert bookings.of_campaign("c1") == booked
        agent.start()
        again = scripted.do(train_assignment(fingerprint=FINGERPRINT, adapter=scripted.adapter_ref))
        agent.process.stop()
    assert training.result
    assert (again.result, again.files) == (training.result, training.files)
    assert bookings.of_campaign("c1") == ONE_TRAINING
