"""What the policy refuses of a single task, by what the coordinator says and by what was done before."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.policy.work_rules import CAMPAIGN_DAYS
from agent.record.database import RECORD_FILE
from tests.agent.owner import Owner
from tests.agent.parts import SHA, campaign_spec, evaluate_assignment, prepare_assignment, train_assignment

OwnerWith = Callable[..., Owner]


@pytest.mark.parametrize(
    ("policy", "task", "says"),
    [
        ({"min_participants": 2}, {"n_clients": 1}, "the campaign has 1 client, and policy.min_participants = 2"),
        ({"min_in_round": 2}, {"n_in_round": 1}, "round 1 has 1 client, and policy.min_in_round = 2"),
        ({"min_in_round": 2, "min_participants": 2}, {"n_clients": 0, "n_in_round": 0}, "the campaign has 0 clients"),
    ],
)
def test_the_company_is_counted_again_in_each_round(
    owner_with: OwnerWith, policy: dict[str, Any], task: dict[str, Any], says: str
) -> None:
    owner = owner_with(**policy)
    spec = campaign_spec(selection={"minimum": 2})
    owner.prepare(spec)
    assert owner.by_policy(train_assignment(spec, **task)).startswith(says)
    assert owner.record.bookings.of_campaign("c1").n_trainings == 0
    owner.train(spec, n_clients=2, n_in_round=2)


def test_max_rounds_counts_trainings_of_rolled_back_rounds_too(owner_with: OwnerWith) -> None:
    owner = owner_with(max_rounds=3)
    owner.prepare()
    owner.train(round=1)
    owner.train(round=2)
    owner.train(round=1, history=1)
    said = owner.by_policy(train_assignment(round=2, history=1))
    assert said == "it is training 4 for this campaign, and policy.max_rounds = 3"
    owner.change(policy=owner.settings.policy.model_copy(update={"max_rounds": 4}))
    owner.train(round=2, history=1)


def test_max_epochs_counts_the_rows_of_all_trainings(owner_with: OwnerWith) -> None:
    spec = campaign_spec(selection={"minimum": 2, "clients_per_round": 2})
    owner = owner_with(max_epochs=2.0)
    owner.prepare(spec, n_train=10)
    owner.train(spec, round=1)
    owner.train(spec, round=2)
    said = owner.by_policy(train_assignment(spec, round=3))
    assert said == "3 passes over 10 rows would be made for this campaign, and policy.max_epochs = 2"
    assert owner.by_policy(train_assignment(spec, round=1, history=1)) == said


def test_a_further_attempt_is_not_refused_for_what_it_booked_itself(owner_with: OwnerWith) -> None:
    owner = owner_with(max_rounds=3, max_epochs=0.3, max_campaigns=1)
    owner.prepare()
    for number in (1, 2, 3):
        owner.train(round=number)
    owner.admit(train_assignment(round=3))
    assert owner.by_policy(train_assignment(round=3, history=1))


def test_counting_fewer_rows_later_makes_no_room(owner_with: OwnerWith) -> None:
    """More rows at the next preparation lower the passes over all of them, and so they may."""
    spec = campaign_spec(selection={"minimum": 2, "clients_per_round": 2})
    owner = owner_with(max_epochs=1.0)
    owner.prepare(spec, n_train=10)
    owner.train(spec, round=1)
    owner.prepare(spec, n_train=15)
    assert owner.by_policy(train_assignment(spec, round=2)).startswith("1.34 passes over 15 rows")
    owner.prepare(spec, n_train=20)
    owner.train(spec, round=2)


def train_for(owner: Owner, campaign_id: str) -> None:
    owner.prepare(campaign_id=campaign_id)
    owner.train(campaign_id=campaign_id)


def test_max_campaigns_counts_campaigns_that_trained_on_the_same_rows(owner_with: OwnerWith) -> None:
    owner = owner_with(max_campaigns=2)
    train_for(owner, "c1")
    owner.prepare(campaign_id="c0")  # trains nothing, so it does not count
    train_for(owner, "c2")
    said = owner.by_policy(train_assignment(campaign_id="c0"))
    assert said == "it is campaign 3 in 30 days that uses these rows, and policy.max_campaigns = 2"
    owner.train(campaign_id="c2", round=2)
    owner.record.campaigns.forget("c1")
    assert owner.by_policy(train_assignment(campaign_id="c0")) == said, "forgetting gives nothing back"
    assert owner.by_policy(prepare_assignment(campaign_id="c3")) == said, "nor are rows counted for one more"


@pytest.mark.parametrize(("days", "is_refused"), [(CAMPAIGN_DAYS - 1, True), (CAMPAIGN_DAYS + 1, False)])
def test_max_campaigns_looks_back_for_some_days(owner_with: OwnerWith, days: int, is_refused: bool) -> None:
    owner = owner_with(max_campaigns=1)
    train_for(owner, "c1")
    then = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    with closing(sqlite3.connect(owner.home / RECORD_FILE)) as connection:
        connection.execute("UPDATE bookings SET at = ?", (then,))
        connection.commit()
    if is_refused:
        assert "policy.max_campaigns = 1" in owner.by_policy(prepare_assignment(campaign_id="c2"))
    else:
        train_for(owner, "c2")


def test_campaigns_on_other_rows_do_not_count(owner_with: OwnerWith) -> None:
    owner = owner_with(max_campaigns=1)
    train_for(owner, "c1")
    owner.change_data(path=other_file(owner))
    train_for(owner, "c2")
    assert [owner.record.bookings.of_pool(pool).n_trainings for pool in (1, 2)] == [1, 1]


def test_a_source_that_names_another_file_later_is_counted_by_the_rows_that_it_reads_then(
    owner_with: OwnerWith,
) -> None:
    owner = owner_with(max_campaigns=1)
    train_for(owner, "c1")
    notes, other = owner.notes, other_file(owner)
    owner.change_data(path=other)
    owner.prepare(campaign_id="c2")
    owner.change_data(path=notes)
    said = owner.by_policy(train_assignment(campaign_id="c2"))
    assert said == "it is campaign 2 in 30 days that uses these rows, and policy.max_campaigns = 1"
    owner.change_data(path=other)
    owner.train(campaign_id="c2")


@pytest.mark.parametrize("make", [train_assignment, evaluate_assignment])
def test_data_that_is_gone_is_said_before_anything_is_booked(owner_with: OwnerWith, make: Callable[..., Any]) -> None:
    owner = owner_with()
    owner.prepare()
    rows = owner.notes.read_text()
    owner.notes.unlink()
    failure = owner.refusal(make())
    assert (failure.kind, failure.message) == (
        "data",
        "data.notes: there is no such file; correct its path in agent.toml",
    )
    owner.notes.write_text(rows)
    sources = owner.settings.data
    owner.change(data={})
    failure = owner.refusal(make())
    said = "this agent has no data named notes: add a table [data.notes] to agent.toml"
    assert (failure.kind, failure.message) == ("data", said)
    owner.change(data=sources)
    totals = owner.record.bookings.of_campaign("c1")
    assert (totals.n_trainings, totals.n_evaluations) == (0, 0)
    owner.admit(make())


def other_file(owner: Owner) -> object:
    path = owner.home / "other.jsonl"
    path.write_text('{"prompt": "another", "completion": "row"}\n')
    return path


@pytest.mark.parametrize("make", [train_assignment, evaluate_assignment])
def test_max_download_bytes_is_for_all_files_of_a_task(owner_with: OwnerWith, make: Callable[..., Any]) -> None:
    owner = owner_with(max_download_bytes=1000)
    spec = campaign_spec(kind="dpo", dpo={"reference": "initial"})
    owner.prepare(spec)
    adapter, more = {"sha256": SHA, "n_bytes": 600}, {"sha256": "b" * 64, "n_bytes": 401}
    said = owner.by_policy(make(spec, adapter=adapter, reference=more))
    assert said == "1,001 bytes are to be downloaded, and policy.max_download_bytes = 1,000"
    owner.admit(make(spec, adapter=adapter, reference=more | {"n_bytes": 400}))


def test_broadcasts_count_too_and_the_default_is_bounded(owner_with: OwnerWith) -> None:
    owner = owner_with()
    owner.prepare()
    for name in ("adapter", "reference", "broadcast"):
        large: dict[str, Any] = {name: {"sha256": SHA, "n_bytes": 10**15}}
        assert "policy.max_download_bytes = 4,294,967,296" in owner.by_policy(train_assignment(**large))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"kinds": ["dpo"]}, 'the kind of training is sft, and data.notes.kinds = ["dpo"]'),
        ({"kinds": []}, "the kind of training is sft, and data.notes.kinds = []"),
        ({"algorithms": ["fedp*"]}, 'the algorithm is fedavg, and data.notes.algorithms = ["fedp*"]'),
        ({"campaigns": []}, "the campaign is c1 with the digest "),
    ],
)
def test_a_data_source_may_be_narrower_than_the_policy(owner_with: OwnerWith, keys: dict[str, Any], says: str) -> None:
    owner = owner_with()
    owner.prepare()
    owner.change_data(**keys)
    assert owner.by_policy(train_assignment()).startswith(says)
    owner.change_data(kinds=["sft"], algorithms=["fed*"], campaigns=["c1"])
    owner.train()
