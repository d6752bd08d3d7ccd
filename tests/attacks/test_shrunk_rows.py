"""A coordinator that trains on one row again and again, each time cut one token shorter.

Two losses whose rows differ in one token tell that token's probability, and a sender who knows the model reads the
token from it. So it read every row, word for word, although its owner allowed one step and one round: each task
said how long rows are, which seed draws them, and that it is round 1.

Now a task says none of it. Length, batch and seed are those of the specification that the owner accepted, a round
is trained once, whatever it is called or changed into, and what is asked again is the answer of the first time.
"""

import pytest

from shared.campaign.digest import spec_sha256
from tests.agent.parts import CREATED_ON
from tests.attacks.attacked import Attacked, Ordered
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

LENGTHS = range(95, 85, -1)
JOB = {
    "steps": 1,
    "learning_rate": 1e-30,
    "rank": 64,
    "micro_batch": 1,
    "data": {"name": "other"},
    "training": {"steps": 1, "batch_size": 1, "seed": 5, "optimizer": "sgd", "max_grad_norm": None},
}


def begun_with(before: Ordered, now: Ordered) -> str:
    """What is said of round 1 under another specification than the one that it was begun with."""
    digests = (f"{spec_sha256(each.spec, CREATED_ON)[:12]}…" for each in (before, now))
    return "contract-mismatch: spec_sha256: round 1 was begun with {}, and not with {}".format(*digests)


def test_what_a_task_says_of_length_batch_seed_and_data_is_not_heard(owner: Attacked) -> None:
    campaign = owner.campaign("told-lengths").begin()
    losses = len(owner.coordinator.losses())
    answers = [owner.coordinator.do_with(campaign.training(), {**JOB, "max_length": length}) for length in LENGTHS]
    assert answers[0].result is not None
    assert answers[0].result["metrics"]["steps"] == 5
    assert all((each.result, each.files) == (answers[0].result, answers[0].files) for each in answers)
    assert len(set(owner.coordinator.losses()[losses:])) == 1
    assert owner.totals("told-lengths").n_rows == 40
    assert owner.printed().count("an earlier run finished this task; only its result is left to send") == 9


def test_a_round_is_trained_once_under_all_specifications_of_a_campaign(owner: Attacked) -> None:
    """Even where each specification is accepted by rule: the accepted campaign's work is counted by its id."""
    campaign = owner.campaign("changed-lengths").begin()
    first = campaign.train()
    assert first.files["delta"]
    losses = set(owner.coordinator.losses())
    for length in LENGTHS:
        changed = campaign.asked_as(training={"max_length": length})
        prepared = changed.prepare()
        assert prepared.result is not None
        assert refusal(changed.train()) == begun_with(campaign, changed)
    assert set(owner.coordinator.losses()) == losses
    assert owner.totals("changed-lengths").n_trainings == 1
    assert "campaign small has another specification than before, and must be accepted again" in owner.printed()


@pytest.mark.parametrize("seed", [8, 9])
def test_another_seed_draws_no_other_rows_in_a_round_that_was_trained(owner: Attacked, seed: int) -> None:
    campaign = owner.campaign(f"seed-{seed}").begin()
    assert campaign.train().result is not None
    changed = campaign.asked_as(training={"seed": seed}).begin()
    assert refusal(changed.train()) == begun_with(campaign, changed)
    assert owner.totals(f"seed-{seed}").n_trainings == 1
