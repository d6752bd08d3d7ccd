"""A running agent whose owner holds its updates: what leaves, what stays, and when it goes."""

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.errors import CoordinatorUnreachable
from agent.holding import releases
from agent.holding.norm import update_norm
from agent.network.api import CoordinatorApi
from agent.orders.job_files import DELTA_FILE
from agent.orders.review import Reviewed
from agent.record.campaigns import Decider, Decision
from agent.record.held import HeldUpdate
from shared.adapters.files import AdapterFile
from shared.digest import sha256_file
from tests.agent.parts import Home
from tests.support.operator import Operator
from tests.support.processes import wait_until
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.suite.tiers import deep

NewHome = Callable[[str], Home]

QUICK = "[network]\nwait_s = 0.2\n"
HOLDS = f"{QUICK}[policy]\nhold_updates = true\n"
ALONE = {"selection": {"minimum": 1}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "LOOK_S", 0.05)
    monkeypatch.setattr(releases, "_PAUSE_S", 0.1)


@pytest.fixture
def home(new_home: NewHome) -> Home:
    home = new_home("ada")
    home.write_settings(HOLDS)
    return home


def create(operator: Operator, **changes: Any) -> str:
    return str(operator.post("/v1/campaigns", campaign_body(**{**ALONE, **changes}))["id"])


def held(home: Home, number: int = 1) -> HeldUpdate:
    """Wait until the update of a round is held and reviewed."""

    def found() -> HeldUpdate | None:
        kept = [each for each in home.workspace.record.held.kept() if each.round == number]
        return kept[0] if kept and kept[0].review is not None else None

    update = wait_until(found, f"a held update of round {number}", 30)
    assert isinstance(update, HeldUpdate)
    return update


def train_states(operator: Operator, campaign_id: str, agent: str = "ada") -> list[str]:
    tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    return [task["state"] for task in tasks if (task["kind"], task["agent_name"]) == ("train", agent)]


def wait_for_states(operator: Operator, campaign_id: str, *states: str) -> None:
    operator.wait_until(lambda: train_states(operator, campaign_id), lambda found: found == list(states))


def files(home: Home, update: HeldUpdate) -> Path:
    return home.folder / "tasks" / update.folder


def delta_that_counted(operator: Operator, campaign_id: str, number: int = 1) -> str:
    [share] = operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")["contributions"]
    return str(share["update_sha256"])


def test_nothing_of_a_held_update_leaves_until_its_owner_lets_exactly_it_go(operator: Operator, home: Home) -> None:
    with home.running():
        campaign_id = create(operator)
        update = held(home)
        wait_for_states(operator, campaign_id, "held")
        other_id = create(operator, name="other", evaluation={"every": 1})
        wait_for_states(operator, other_id, "held")
        assert home.sent("delta") == []
        assert [each["kind"] for each in home.sent("result")].count("train") == 0
        assert [each["kind"] for each in home.sent("result")].count("evaluate") == 1, "other work goes on"
        trained = sha256_file(files(home, update) / DELTA_FILE)
        assert home.workspace.record.held.release(update)
        operator.wait_for(campaign_id, "completed", timeout_s=30)
        assert delta_that_counted(operator, campaign_id) == trained
        wait_until(lambda: len(home.workspace.record.held.kept()) == 1, "the end of the one that was sent", 10)
        assert train_states(operator, other_id) == ["held"]
    assert update.release_at is None
    assert update.review is not None
    assert (update.review.loss_before, update.review.loss_after, len(update.review.answers)) == (2.0, 1.5, 5)
    assert stat.S_IMODE((home.folder / "record.db").stat().st_mode) == 0o600
    ledger = "".join(path.read_text() for path in (home.folder / "ledger").iterdir())
    assert "prompt 1" not in ledger
    assert "after 1" not in ledger


@pytest.mark.deep
def test_an_update_goes_by_itself_when_its_time_has_come(operator: Operator, home: Home) -> None:
    home.write_settings(f"{QUICK}[policy]\nhold_updates_s = 1.5\n")
    with home.running():
        campaign_id = create(operator)
        wait_for_states(operator, campaign_id, "held")
        operator.wait_for(campaign_id, "completed", timeout_s=30)
    events = operator.events(campaign_id)
    assert [events.count(each) for each in ("update-held", "update-released")] == [1, 1]


@pytest.mark.deep
def test_held_updates_go_once_the_settings_hold_none(
    operator: Operator, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    with home.running():
        campaign_id = create(operator)
        held(home)
        caplog.set_level("INFO", "agent")
        home.write_settings(QUICK)
        operator.wait_for(campaign_id, "completed", timeout_s=30)
    assert "the update of round 1 of campaign small goes now: the settings hold no updates any more" in caplog.text


def test_the_owners_word_on_what_leaves_counts_when_it_leaves(operator: Operator, home: Home) -> None:
    with home.running():
        campaign_id = create(operator)
        update = held(home)
        home.write_settings(f'{HOLDS}report = "none"\n')
        assert home.workspace.record.held.release(update)
        operator.wait_for(campaign_id, "completed", timeout_s=30)
    [result] = [each for each in home.sent("result") if each["kind"] == "train"]
    assert result["metrics"].keys() == {"steps"}


@pytest.mark.deep
def test_updates_of_several_rounds_are_held_and_their_files_kept(
    operator: Operator, home: Home, enroll: Callable[..., ScriptedAgent]
) -> None:
    """The rounds close without them; what is released then is told to be too late, and its files go as others do."""
    bob = enroll("bob")
    with home.running():
        campaign_id = create(operator, rounds=3)
        bob.prepare()
        updates = []
        for number in (1, 2):
            updates.append(held(home, number))
            bob.train((files(home, updates[-1]) / DELTA_FILE).read_bytes())
            operator.wait_until(
                lambda: operator.get(f"/v1/campaigns/{campaign_id}")["rounds_closed"],
                lambda closed, number=number: closed == number,
            )
        updates.append(held(home, 3))
        assert [each.round for each in home.workspace.record.held.kept()] == [1, 2, 3]
        digests = [sha256_file(files(home, each) / DELTA_FILE) for each in updates]
        assert len(set(digests)) == 3
        assert home.workspace.record.held.release(updates[0])
        wait_until(lambda: len(home.workspace.record.held.kept()) == 2, "the end of round 1's", 10)
        assert home.workspace.record.held.release(updates[2])
        wait_until(lambda: len(home.workspace.record.held.kept()) == 1, "the sending of round 3's", 10)
        assert home.sent("delta")[-1]["sha256"] == digests[2]
        assert len(home.sent("delta")) == 1
        norms = home.workspace.record.bookings.norms(campaign_id)
        assert list(norms) == [1, 2, 3]
        for update in updates[1:]:
            assert norms[update.round] == pytest.approx(norm_by_hand(files(home, update) / DELTA_FILE), rel=1e-12)


def norm_by_hand(path: Path) -> float:
    with AdapterFile(path) as file:
        return float(np.sqrt(sum((file.read(name).astype(np.float64) ** 2).sum() for name in file.tensors)))


@pytest.mark.parametrize("how", ["leave", deep("forget"), deep("cancel")])
def test_an_update_is_kept_no_longer_than_its_campaign(operator: Operator, home: Home, how: str) -> None:
    with home.running():
        campaign_id = create(operator)
        update = held(home)
        campaigns = home.workspace.record.campaigns
        if how == "cancel":
            operator.campaign(campaign_id, "cancel")
        elif how == "forget":
            campaigns.forget(campaign_id)
        else:
            known = campaigns.find(campaign_id)
            assert known is not None
            assert campaigns.decide(known, Decision.LEFT, Decider.OWNER)
        wait_until(lambda: not home.workspace.record.held.kept(), "the end of the hold", 20)
    assert home.sent("delta") == []
    ended = home.workspace.record.held.find(update.key)
    assert ended is not None
    assert ended.review is None, "what its owner wrote is not kept longer"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        ({"review": {"problem": "no rows of notes are held out"}}, "no rows of notes are held out"),
        ({"review": {"n_rows": "none"}}, "the training process ended with exit code 1"),
    ],
)
def test_a_hold_stands_if_nothing_can_be_compared(
    operator: Operator, home: Home, monkeypatch: pytest.MonkeyPatch, recorded: dict[str, Any], problem: str
) -> None:
    monkeypatch.setenv("FEDLOOM_RECORDED", json.dumps(recorded))
    with home.running():
        campaign_id = create(operator)
        update = held(home)
        assert update.review is not None
        assert problem in update.review.problem
        assert train_states(operator, campaign_id) == ["held"]
        assert home.workspace.record.held.release(update)
        operator.wait_for(campaign_id, "completed", timeout_s=30)


def test_a_review_that_ends_the_agent_each_time_is_given_up(operator: Operator, home: Home) -> None:
    with home.running():
        create(operator)
        update = held(home)
    record = home.workspace.record.held
    record._set(update, "review", None)
    record._set(update, "review_tries", 3)
    with home.running():
        update = held(home)
    assert update.review == Reviewed(problem="the agent ended 3 times while it compared them")


@pytest.mark.deep
def test_a_review_that_was_interrupted_is_computed_at_the_next_start(
    operator: Operator, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLOOM_RECORDED", json.dumps({"review_s": 60}))
    with home.running():
        campaign_id = create(operator)
        wait_until(lambda: any(each.review_tries for each in home.workspace.record.held.kept()), "a review", 30)
        wait_for_states(operator, campaign_id, "held")
    [update] = home.workspace.record.held.kept()
    assert update.review is None
    monkeypatch.delenv("FEDLOOM_RECORDED")
    with home.running():
        assert held(home).review is not None


def test_files_of_held_updates_outlive_the_cleaning_of_old_tasks(operator: Operator, home: Home) -> None:
    with home.running():
        create(operator)
        update = held(home)
    folder = files(home, update)
    other = home.folder / "tasks" / "other"
    other.mkdir()
    for path in (folder, other):
        os.utime(path, (0, 0))
    home.workspace.tidy()
    assert (folder / DELTA_FILE).exists()
    assert not other.exists()
    home.workspace.record.held.end(update)
    home.workspace.tidy()
    assert not folder.exists()


@pytest.mark.deep
def test_a_release_is_passed_on_once_the_coordinator_is_back(
    operator: Operator, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_update, n_refused = CoordinatorApi.release_update, [3]

    async def away(api: CoordinatorApi, campaign_id: str, task_id: str) -> Any:
        if n_refused[0]:
            n_refused[0] -= 1
            raise CoordinatorUnreachable("nobody there")
        return await release_update(api, campaign_id, task_id)

    monkeypatch.setattr(CoordinatorApi, "release_update", away)
    with home.running():
        campaign_id = create(operator)
        update = held(home)
        assert home.workspace.record.held.release(update)
        operator.wait_for(campaign_id, "completed", timeout_s=30)
    assert n_refused == [0]


def test_a_release_during_the_hold_is_not_lost(operator: Operator, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word comes between the note and the request, and the coordinator hears it before it holds the task."""
    hold = CoordinatorApi.hold

    async def slow(api: CoordinatorApi, lease: Any) -> None:
        record = home.workspace.record.held
        [update] = record.kept()
        assert record.release(update)
        await api.release_update(update.campaign_id, update.task_id)
        record.passed_on(update, is_told=True)
        await hold(api, lease)

    monkeypatch.setattr(CoordinatorApi, "hold", slow)
    with home.running():
        campaign_id = create(operator)
        operator.wait_for(campaign_id, "completed", timeout_s=30)


def test_the_norm_is_that_of_all_tensors(tmp_path: Path) -> None:
    path = tmp_path / "delta"
    path.write_bytes(adapter_bytes(tmp_path, 0.5))
    assert update_norm(path) == norm_by_hand(path) == np.sqrt(0.25 * (2 * 3 + 4 * 2))


def test_times_are_those_of_the_end_of_the_training(operator: Operator, home: Home) -> None:
    home.write_settings(f"{QUICK}[policy]\nhold_updates_s = 1000\n")
    began = datetime.now(UTC)
    with home.running():
        create(operator)
        update = held(home)
    assert update.release_at is not None
    assert 1000 <= (update.release_at - began).total_seconds() < 1060
