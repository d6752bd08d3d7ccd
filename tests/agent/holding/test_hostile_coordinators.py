"""A coordinator that wants a held update anyway: it asks again, by other words, and claims that it was let go."""

import time
from pathlib import Path

import pytest

from agent.holding import holding, releases
from tests.agent.parts import Home, init_assignment, prepare_assignment, train_assignment
from tests.agent.scripted_coordinator import ScriptedCoordinator, scripted_coordinator
from tests.support.processes import wait_until

HOLDS = "[network]\nwait_s = 0.1\n[policy]\nhold_updates = true\n"


class Greedy(ScriptedCoordinator):
    """Hands a held task out again at once, and says of each update that it was released."""

    n_holds = 0
    state = "pending"

    def answer(self, method: str, path: str, body: bytes, offset: str) -> tuple[int, object, dict[str, str]]:
        if method == "PUT" and path.endswith("/hold"):
            self.n_holds += 1
            return 204, b"", {}
        if method == "PUT" and path.endswith("/release"):
            return 200, {"state": self.state}, {}
        return super().answer(method, path, body, offset)


def held_home(coordinator: Greedy, folder: Path) -> Home:
    home = coordinator.enroll(folder)
    home.write_settings(HOLDS)
    return home


def test_asking_again_and_again_by_whatever_words_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_AGAIN_S", 0.1)
    monkeypatch.setattr(releases, "LOOK_S", 0.05)
    with scripted_coordinator(tmp_path, Greedy) as coordinator:
        home = held_home(coordinator, tmp_path / "ada")
        with home.running():
            fingerprint = coordinator.do(prepare_assignment()).result
            assert fingerprint is not None
            terms = {"fingerprint": fingerprint["fingerprint"]}
            built = coordinator.do(init_assignment(**terms))
            adapter = coordinator.serve(built.files["adapter"])
            first = coordinator.hand_out(train_assignment(adapter=adapter, **terms))
            wait_until(lambda: coordinator.n_holds >= 4, "asking again", 30)
            second = coordinator.hand_out(train_assignment(adapter=adapter, n_clients=9, n_in_round=9, **terms))
            first.is_over = True
            n_holds = coordinator.n_holds
            wait_until(lambda: coordinator.n_holds >= n_holds + 2, "asking for the same by another task", 30)
            [update] = home.workspace.record.held.kept()
            assert update.is_held
            assert (first.files, first.result, second.files, second.result) == ({}, None, {}, None)
            assert home.workspace.record.held.release(update)
            wait_until(lambda: second.is_over, "the release", 30)
        assert second.files.keys() == {"delta"}
        assert home.workspace.record.bookings.of_campaign("c1").n_trainings == 1


@pytest.mark.deep
def test_a_hold_whose_task_is_asked_for_again_is_answered_without_haste(tmp_path: Path) -> None:
    with scripted_coordinator(tmp_path, Greedy) as coordinator:
        home = held_home(coordinator, tmp_path / "ada")
        with home.running():
            prepared = coordinator.do(prepare_assignment()).result
            assert prepared is not None
            terms = {"fingerprint": prepared["fingerprint"]}
            adapter = coordinator.serve(coordinator.do(init_assignment(**terms)).files["adapter"])
            coordinator.hand_out(train_assignment(adapter=adapter, **terms))
            wait_until(lambda: coordinator.n_holds >= 1, "the hold", 30)
            n_holds = coordinator.n_holds
            time.sleep(1.5)
            assert coordinator.n_holds <= n_holds + 3


def test_a_released_round_lets_nothing_else_go_than_the_update_that_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator asks for a released round by fields that nothing else binds: the update would be another one."""
    monkeypatch.setattr(holding, "_AGAIN_S", 0.1)
    monkeypatch.setattr(releases, "LOOK_S", 0.05)
    with scripted_coordinator(tmp_path, Greedy) as coordinator:
        home = held_home(coordinator, tmp_path / "ada")
        with home.running():
            prepared = coordinator.do(prepare_assignment()).result
            assert prepared is not None
            terms = {"fingerprint": prepared["fingerprint"]}
            adapter = coordinator.serve(coordinator.do(init_assignment(**terms)).files["adapter"])
            shown = coordinator.hand_out(train_assignment(adapter=adapter, **terms))
            wait_until(lambda: coordinator.n_holds >= 1, "the hold", 30)
            assert home.workspace.record.held.release(home.workspace.record.held.kept()[0])
            larger = {**adapter, "n_bytes": adapter["n_bytes"] + 1}
            other = coordinator.hand_out(train_assignment(adapter=larger, committed_update="c" * 64, **terms))
            wait_until(lambda: shown.is_over and other.is_over, "both answers", 30)
        assert shown.files.keys() == {"delta"}
        assert (other.files, other.result) == ({}, None)
        assert home.workspace.record.bookings.of_campaign("c1").n_trainings == 1
