"""A coordinator that picks the rows of a training: by the seed, or by the number that it gives to the client.

Rows are drawn by the campaign's seed and the client's number, so either one named the row of each step, six times
of six.

Now the seed is part of the digest that the owner accepted, and the number is pinned by the first training of each
history of a campaign, of which there are few. That number is still the coordinator's choice, and so the rows of each
round are known to it: with the floor of 40 rows behind an update that names a batch and no row.
"""

import pytest

from tests.attacks.attacked import Attacked
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]


def test_the_first_number_is_the_only_one_of_a_history(owner: Attacked) -> None:
    """After a declared rollback clients may be numbered anew: once, and the rollback counts."""
    campaign = owner.campaign("numbered").begin()
    assert campaign.train(client_number=2).result is not None
    campaign.adapter = owner.coordinator.serve(owner.coordinator.blob(campaign.adapter))
    for number in (0, 1, 3, 100_000):
        for place in ({"round": 1}, {"round": 2}):
            said = refusal(campaign.train(client_number=number, **place))
            assert said == f"contract-mismatch: client_number: {number}, and it was 2 before"
            assert said in owner.printed()
    assert owner.totals("numbered").n_trainings == 1
    for history in (1, 2, 3):
        assert campaign.train(client_number=history + 2, history=history).result is not None
        said = [refusal(campaign.train(client_number=0, history=history, round=number)) for number in (1, 2)]
        assert said == [f"contract-mismatch: client_number: 0, and it was {history + 2} before"] * 2
    assert refusal(campaign.train(client_number=6, history=4)).endswith(
        "the campaign was rolled back or restored 4 times, and policy.max_rollbacks = 3"
    )
    assert owner.totals("numbered").n_trainings == 4


def test_a_number_stays_when_the_campaign_changes_and_after_a_restart(owner: Attacked) -> None:
    campaign = owner.campaign("kept").begin()
    assert campaign.train(client_number=2).result is not None
    owner.agent.process.stop()
    owner.agent.start()
    changed = campaign.asked_as(rounds=4)
    assert changed.prepare().result is not None
    assert (
        refusal(changed.train(round=2, client_number=1)) == "contract-mismatch: client_number: 1, and it was 2 before"
    )


def test_a_seed_in_a_task_draws_nothing(owner: Attacked) -> None:
    campaign = owner.campaign("seeded").begin()
    first = campaign.train()
    for seed in range(5):
        task = {"seed": seed, "training": {"seed": seed}, "client": {"seed": seed}, "rows": [seed], "indices": [seed]}
        again = owner.coordinator.do_with(campaign.training(), task)
        assert (again.result, again.files) == (first.result, first.files)
    assert owner.totals("seeded").n_trainings == 1
