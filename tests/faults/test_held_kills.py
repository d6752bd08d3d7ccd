"""kill -9 around a held update: it is neither lost nor sent before its owner lets it go, and then it is sent once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.orders.job_files import DELTA_FILE
from agent.record.held import HeldUpdate
from agent.record.record import OwnerRecord
from shared.digest import sha256_file
from tests.faults.mortal_world import around
from tests.support.deaths import PatientOperator
from tests.support.ledgers import sent
from tests.support.processes import QuickAgent, QuickCoordinator, ended, wait_until
from tests.support.scripted import campaign_body

pytestmark = pytest.mark.fault

HOLDS = "[network]\nwait_s = 1\n\n[policy]\nhold_updates = true\n\n"
BEFORE = ("agent: norm noted", "agent: update noted", "agent: update held")
AFTER = ("agent: result there", "agent: chunk sent", "agent: delta sent", "agent: ended")
"""Of an update that was let go, between its release and its end."""
COORDINATOR = around("hold", "let go")
POINTS = {*BEFORE, *COORDINATOR}


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[QuickCoordinator]:
    coordinator = QuickCoordinator(tmp_path / "coordinator", FEDLOOM_LEASE__TTL_S="3")
    with ended(coordinator):
        yield coordinator


@pytest.fixture
def ada(coordinator: QuickCoordinator, tmp_path: Path) -> Iterator[QuickAgent]:
    agent = QuickAgent.recorded_one(coordinator, tmp_path, "ada", settings=HOLDS)
    with ended(agent):
        yield agent


def die_at(agent: QuickAgent, point: str, notes: Path) -> None:
    """Start an agent, and wait until it was killed at a point."""
    agent.environment |= {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(notes)}
    agent.start()
    assert agent.process.popen.wait(60) == -signal.SIGKILL, agent.process.printed()[-2000:]
    for name in ("FEDLOOM_CRASH_AT", "FEDLOOM_CRASH_NOTES"):
        del agent.environment[name]


def begin(coordinator: QuickCoordinator) -> str:
    body = campaign_body(selection={"minimum": 1}, training={"steps": 2, "batch_size": 2, "seed": 7})
    return str(coordinator.operator.post("/v1/campaigns", body)["id"])


def held(agent: QuickAgent) -> HeldUpdate:
    """Wait until an update is held and reviewed."""

    def found() -> HeldUpdate | None:
        kept = OwnerRecord(agent.home).held.kept()
        return kept[0] if kept and kept[0].review is not None else None

    update = wait_until(found, "a held update", 60)
    assert isinstance(update, HeldUpdate)
    return update


def train_state(coordinator: QuickCoordinator, campaign_id: str) -> str:
    tasks = coordinator.operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    return str(next(task["state"] for task in tasks if task["kind"] == "train"))


def check_sent_once(coordinator: QuickCoordinator, agent: QuickAgent, campaign_id: str, sha256: str) -> None:
    assert coordinator.operator.wait_for(campaign_id, "completed", timeout_s=60)["rounds_closed"] == 1
    [share] = coordinator.operator.get(f"/v1/campaigns/{campaign_id}/adapters/1")["contributions"]
    assert share["update_sha256"] == sha256
    assert [each["sha256"] for each in sent(agent.home, "delta")] == [sha256]
    record = OwnerRecord(agent.home)
    wait_until(lambda: not record.held.kept(), "the end of the hold", 30)
    assert record.bookings.of_campaign(campaign_id).n_trainings == 1
    assert agent.process.printed().count("  training 1/2") == 1, "a finished training was repeated"


@pytest.mark.deep
@pytest.mark.parametrize("point", BEFORE)
def test_an_agent_that_dies_before_or_while_it_holds_sends_nothing(
    coordinator: QuickCoordinator, ada: QuickAgent, tmp_path: Path, point: str
) -> None:
    campaign_id = begin(coordinator)
    die_at(ada, point, tmp_path / "notes")
    assert sent(ada.home, "delta") == []
    ada.start()
    update = held(ada)
    wait_until(lambda: train_state(coordinator, campaign_id) == "held", "the hold", 30)
    assert sent(ada.home, "delta") == []
    sha256 = sha256_file(ada.home / "tasks" / update.folder / DELTA_FILE)
    assert OwnerRecord(ada.home).held.release(update)
    check_sent_once(coordinator, ada, campaign_id, sha256)


@pytest.mark.parametrize(
    "point", [AFTER[2], *(pytest.param(each, marks=pytest.mark.deep) for each in AFTER if each != AFTER[2])]
)
def test_an_agent_that_dies_after_the_release_sends_what_was_held_once(
    coordinator: QuickCoordinator, ada: QuickAgent, tmp_path: Path, point: str
) -> None:
    campaign_id = begin(coordinator)
    ada.start()
    update = held(ada)
    wait_until(lambda: train_state(coordinator, campaign_id) == "held", "the hold", 30)
    ada.process.kill()
    sha256 = sha256_file(ada.home / "tasks" / update.folder / DELTA_FILE)
    assert OwnerRecord(ada.home).held.release(update)
    die_at(ada, point, tmp_path / "notes")
    ada.start()
    check_sent_once(coordinator, ada, campaign_id, sha256)


@pytest.mark.deep
@pytest.mark.parametrize("point", COORDINATOR)
def test_a_coordinator_that_dies_holds_and_lets_go_all_the_same(tmp_path: Path, point: str) -> None:
    crash = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(tmp_path / "notes")}
    coordinator = QuickCoordinator(tmp_path / "coordinator", **crash)
    ada = QuickAgent.recorded_one(coordinator, tmp_path, "ada", settings=HOLDS)
    with ended(coordinator, ada):
        ada.start()
        patient = PatientOperator(coordinator.url, coordinator.operator.key)
        campaign_id = patient.create(campaign_body(selection={"minimum": 1}, training={"steps": 2, "batch_size": 2}))
        update = held_through(ada, coordinator) if point in around("hold") else held(ada)
        if point in around("let go"):
            wait_until(lambda: train_state(coordinator, campaign_id) == "held", "the hold", 30)
        assert sent(ada.home, "delta") == []
        sha256 = sha256_file(ada.home / "tasks" / update.folder / DELTA_FILE)
        assert OwnerRecord(ada.home).held.release(update)
        if point in around("let go"):
            start_again(coordinator)
        check_sent_once(coordinator, ada, campaign_id, sha256)


def held_through(agent: QuickAgent, coordinator: QuickCoordinator) -> HeldUpdate:
    """Wait until an update is held, by a coordinator that dies once on the way."""
    start_again(coordinator)
    return held(agent)


def start_again(coordinator: QuickCoordinator) -> None:
    """Wait until the coordinator was killed, and start it again."""
    assert coordinator.process.popen.wait(60) == -signal.SIGKILL
    coordinator.start()


def test_an_agent_that_dies_in_its_review_reviews_at_the_next_start(
    coordinator: QuickCoordinator, ada: QuickAgent
) -> None:
    ada.recorded = {"review_s": 60}
    campaign_id = begin(coordinator)
    ada.start()
    wait_until(lambda: any(each.review_tries for each in OwnerRecord(ada.home).held.kept()), "a review", 60)
    wait_until(lambda: train_state(coordinator, campaign_id) == "held", "the hold", 30)
    ada.process.kill()
    ada.recorded = {}
    ada.start()
    assert held(ada).review_tries == 2
    assert sent(ada.home, "delta") == []
