"""Work that was begun is done with what it was begun with, however often it is asked for."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.orders.jobs import TrainJob
from agent.running.runner import _folder_name
from shared.wire.tasks.assignments import Assignment
from tests.agent.owner import Owner
from tests.agent.parts import campaign_spec, evaluate_assignment, prepare_assignment, train_assignment

OTHER = {"sha256": "b" * 64, "n_bytes": 10}
DPO = campaign_spec(kind="dpo", dpo={"reference": "initial"})
EPOCHS = campaign_spec(training={"epochs": 1, "batch_size": 2})


@pytest.fixture
def ready(owner: Owner) -> Owner:
    owner.prepare()
    return owner


@pytest.mark.parametrize("first", [None, OTHER])
def test_another_broadcast(ready: Owner, first: dict[str, Any] | None) -> None:
    ready.train()
    ready.admit(train_assignment(round=2, broadcast=first))
    said = ready.mismatch(train_assignment(round=2, broadcast={"sha256": "c" * 64, "n_bytes": 10}))
    was = "bbbbbbbbbbbb…" if first else "none"
    assert said == f"broadcast.sha256: round 2 was begun with {was}, and not with cccccccccccc…"
    assert ready.mismatch(train_assignment(round=2, broadcast=None if first else OTHER)).startswith("broadcast.sha256")


@pytest.mark.parametrize("make", [train_assignment, evaluate_assignment])
def test_another_reference(owner: Owner, make: Callable[..., Assignment]) -> None:
    owner.prepare(DPO)
    owner.admit(make(DPO, reference=OTHER))
    said = owner.mismatch(make(DPO, reference={"sha256": "c" * 64, "n_bytes": 10}))
    assert said.startswith("reference.sha256: ")


def test_another_client_number(ready: Owner) -> None:
    ready.admit(train_assignment(client_number=1))
    assert ready.mismatch(train_assignment(client_number=2)) == "client_number: 2, and it was 1 before"


def test_another_specification_does_no_more_in_a_round_than_was_booked(ready: Owner) -> None:
    """One that comes under the same id, and that the owner approves too."""
    greedy = campaign_spec(training={"steps": 40_000, "batch_size": 2})
    ready.admit(train_assignment())
    ready.prepare(greedy, n_train=100_000)
    assert ready.mismatch(train_assignment(greedy)).startswith("spec_sha256: round 1 was begun with ")
    assert ready.record.bookings.of_campaign("c1").n_rows == 10


def test_rows_that_came_since_are_not_trained_on_in_a_round_that_was_booked_without_them(owner: Owner) -> None:
    owner.prepare(EPOCHS, n_train=20)
    owner.admit(train_assignment(EPOCHS))
    owner.prepare(EPOCHS, n_train=400)
    job = owner.admit(train_assignment(EPOCHS)).job
    assert isinstance(job, TrainJob)
    assert job.steps == 10
    assert owner.train(EPOCHS, round=2).steps == 200


def test_a_round_with_too_few_others_is_refused_although_it_was_begun(tmp_path: Any) -> None:
    owner, spec = Owner(tmp_path / "home", min_participants=3), campaign_spec(selection={"minimum": 3})
    owner.prepare(spec)
    owner.admit(train_assignment(spec))
    assert "policy.min_participants = 3" in owner.by_policy(train_assignment(spec, n_clients=2))


def test_two_requests_at_once_find_room_for_one(tmp_path: Any) -> None:
    from threading import Thread

    owner = Owner(tmp_path / "home", max_rounds=3)
    owner.prepare(campaign_spec(rounds=3))
    for number in (1, 2):
        owner.train(round=number)
    outcomes: list[str] = []

    def ask(history: int) -> None:
        try:
            owner.admit(train_assignment(round=3, history=history))
        except Exception as error:
            outcomes.append(str(error))
        else:
            outcomes.append("admitted")

    threads = [Thread(target=ask, args=(history,)) for history in (1, 1, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["admitted"] * 4, "the same round, which is booked once"
    assert owner.record.bookings.of_campaign("c1").n_trainings == 3


ASKED = [
    train_assignment(),
    train_assignment(round=2),
    train_assignment(history=1),
    train_assignment(adapter=OTHER),
    train_assignment(broadcast=OTHER),
    train_assignment(client_number=1),
    train_assignment(campaign_spec(rounds=4)),
    train_assignment(campaign_id="c2"),
    evaluate_assignment(),
    evaluate_assignment(adapter=OTHER),
    evaluate_assignment(campaign_id="c2"),
    prepare_assignment(),
    prepare_assignment(campaign_id="c2"),
    prepare_assignment(campaign_spec(rounds=4)),
]


def test_each_question_has_a_folder_of_its_own_although_a_task_id_comes_again() -> None:
    names = [_folder_name(task, "task1") for task in ASKED]
    assert len(set(names)) == len(ASKED)
    assert names == [_folder_name(task, "task1") for task in ASKED]


def test_the_tasks_of_a_round_share_a_folder() -> None:
    changes: list[dict[str, Any]] = [{}, {"n_clients": 9}, {"n_in_round": 2}, {"committed_update": "d" * 64}]
    names = {_folder_name(train_assignment(**change), f"task{i}") for i, change in enumerate(changes)}
    assert len(names) == 1
