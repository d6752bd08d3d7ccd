"""A running agent that is asked for the same work again and again: nothing new leaves it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.record.bookings import Totals
from shared.wire.tasks.assignments import EvaluateAssignment, TrainAssignment
from tests.agent.parts import evaluate_assignment, prepare_assignment, train_assignment
from tests.agent.scripted_coordinator import ScriptedCoordinator, scripted_coordinator
from tests.support.processes import wait_until
from tests.support.scripted import FINGERPRINT, adapter_bytes


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[ScriptedCoordinator]:
    with scripted_coordinator(tmp_path) as served:
        yield served


def training(coordinator: ScriptedCoordinator, **changes: Any) -> TrainAssignment:
    return train_assignment(**{"fingerprint": FINGERPRINT, "adapter": coordinator.adapter_ref, **changes})


def evaluation(coordinator: ScriptedCoordinator, **changes: Any) -> EvaluateAssignment:
    return evaluate_assignment(**{"fingerprint": FINGERPRINT, "adapter": coordinator.adapter_ref, **changes})


def test_a_round_is_trained_once_and_the_same_bytes_are_sent_again(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    home = coordinator.enroll(tmp_path / "home")
    other_start = coordinator.serve(adapter_bytes(tmp_path, 0.5))
    with home.running():
        assert coordinator.do(prepare_assignment()).result
        first = coordinator.do(training(coordinator))
        again = [coordinator.do(training(coordinator))]
        other = coordinator.do(training(coordinator, adapter=other_start))
    assert first.result
    assert first.files["delta"]
    with home.running():  # after a restart too
        again.append(coordinator.do(training(coordinator)))
    assert [(each.result, each.files) for each in again] == [(first.result, first.files)] * 2
    assert (other.result, other.files) == (None, {})
    assert other.failure
    assert other.failure["message"].startswith("adapter.sha256: adapter 0 with ")
    assert home.workspace.record.bookings.of_campaign("c1") == Totals(n_trainings=1, steps=5, n_rows=10)
    [result] = home.folder.glob("tasks/c1.1.*/result.json")
    shutil.rmtree(result.parent)
    with home.running():
        refused = coordinator.do(training(coordinator))
        rolled_back = coordinator.do(training(coordinator, history=1))
    assert refused.files == {}
    said = "round: round 1 was trained and sent before, and its update is no longer here; a round is trained once"
    assert refused.failure == {"kind": "contract-mismatch", "message": said}
    assert rolled_back.files["delta"]
    assert home.workspace.record.bookings.of_campaign("c1").n_trainings == 2


def test_an_earlier_round_is_not_trained_again(coordinator: ScriptedCoordinator, tmp_path: Path) -> None:
    home = coordinator.enroll(tmp_path / "home")
    with home.running():
        coordinator.do(prepare_assignment())
        assert coordinator.do(training(coordinator, round=1)).result
        assert coordinator.do(training(coordinator, round=2)).result
        refused = coordinator.do(training(coordinator, round=1))
    assert refused.files == {}
    assert refused.failure
    assert refused.failure["message"].startswith("round: round 1 was trained and sent before")


def test_an_adapter_is_evaluated_once(coordinator: ScriptedCoordinator, tmp_path: Path) -> None:
    home = coordinator.enroll(tmp_path / "home")
    other = coordinator.serve(adapter_bytes(tmp_path, 0.5))
    with home.running():
        coordinator.do(prepare_assignment())
        first, again = (coordinator.do(evaluation(coordinator, round=1)) for _ in range(2))
        refused = coordinator.do(evaluation(coordinator, round=1, adapter=other))
    assert first.result
    assert again.result == first.result
    assert refused.failure
    assert refused.failure["message"].startswith("adapter.sha256: adapter 1 with ")
    assert home.workspace.record.bookings.of_campaign("c1") == Totals(n_evaluations=1)


def test_what_is_refused_reads_nothing_downloads_nothing_and_starts_no_child(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    home = coordinator.enroll(tmp_path / "home")
    (home.folder / "notes.jsonl").unlink()
    never_served = {"sha256": "d" * 64, "n_bytes": 10}
    with home.running():
        refused = coordinator.do(train_assignment(adapter=never_served))
        home.write_settings('[policy]\naccept = "ask"\n')
        waiting = coordinator.do(prepare_assignment(campaign_id="c2"))
        wait_until(lambda: not list(home.folder.glob("tasks/*")), "the end of the task", 20)
    assert refused.failure
    assert refused.failure["message"].startswith("campaign_id: this agent was not asked")
    assert waiting.failure == {
        "kind": "waiting-for-owner",
        "message": "waiting for its owner to accept the campaign",
    }
    assert not list(home.folder.glob("logs/*"))
