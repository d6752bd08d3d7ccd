"""A coordinator that says of each task that it is round 1, or replays what was done.

Ninety train tasks that all said round 1 were done under a limit of one round, and the same again under another
campaign id; a task that was finished was trained anew from another adapter; rounds 1, 2, 1, 2, 1 needed no word of
a rollback.

Now the agent counts in a record of its own, booked before the work, and nothing that a task says takes from it.
"""

from datetime import timedelta

import pytest

from agent.policy.work_rules import CAMPAIGN_DAYS
from agent.record.bookings import Totals
from tests.attacks.attacked import DATA, Attacked
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]


def test_round_1_again_and_again_is_one_training(owner: Attacked) -> None:
    campaign = owner.campaign("repeated").begin()
    answers = [campaign.train(n_clients=3 + n) for n in range(12)]
    updates = owner.coordinator.updates()
    assert {each.files["delta"] for each in answers} <= updates
    assert len({each.files["delta"] for each in answers}) == 1
    assert owner.totals("repeated") == Totals(n_trainings=1, steps=5, n_rows=40)
    owner.agent.process.stop()
    owner.agent.start()
    assert campaign.train().files == answers[0].files, "after a restart too"
    assert owner.totals("repeated").n_trainings == 1
    assert "1/3" in owner.says("campaigns")


def test_other_adapters_are_refused_under_a_round_that_was_begun(owner: Attacked) -> None:
    campaign = owner.campaign("crafted-again").begin()
    first, adapter = campaign.train(), campaign.adapter["sha256"]
    for other in (owner.coordinator.serve(first.files["delta"]), owner.coordinator.serve(b"anything")):
        assert refusal(campaign.train(adapter=other)) == (
            f"contract-mismatch: adapter.sha256: round 1 was begun with {adapter[:12]}…, and not with "
            f"{other['sha256'][:12]}…"
        )
    assert owner.totals("crafted-again").n_trainings == 1


def test_rounds_that_fall_without_a_declared_rollback(owner: Attacked) -> None:
    campaign = owner.campaign("falling").begin()
    assert campaign.train(round=1).result is not None
    start = campaign.adapter
    campaign.adapter = owner.coordinator.serve(owner.coordinator.blob(start))
    assert campaign.train(round=2).result is not None
    again = refusal(campaign.train(round=1))
    assert again == (
        "contract-mismatch: round: round 1 was trained and sent before, and its update is no longer here; a round is "
        "trained once"
    )
    campaign.train(round=3)
    assert owner.totals("falling").n_trainings == 3
    assert refusal(campaign.train(round=4)) == (
        "contract-mismatch: round: 4 is beyond rounds = 3 of the accepted campaign"
    )


def test_a_round_that_was_left_out_is_not_made_up_later(owner: Attacked) -> None:
    campaign = owner.campaign("skipping").begin()
    assert campaign.train(round=3, adapter=campaign.adapter).result is not None
    assert refusal(campaign.train(round=2)) == (
        "contract-mismatch: round: 2 comes after 3, and no rollback was declared"
    )


def test_the_owners_own_limit_counts_trainings_over_all_histories(owner: Attacked) -> None:
    campaign = owner.campaign("limited", rounds=1).begin()
    try:
        owner.write_settings('accept = "any"\nmax_campaigns = 20\nmax_rounds = 1\n', DATA)
        assert campaign.train().result is not None
        said = refusal(campaign.train(history=1))
    finally:
        owner.write_settings('accept = "any"\nmax_campaigns = 20\n', DATA)
    words = "it is training 2 for this campaign, and policy.max_rounds = 1"
    assert said == f"refused-by-policy: refused by this agent's policy: {words}"
    assert words in owner.printed()


def test_a_campaign_under_another_id_is_another_campaign_of_the_owners_count(owner: Attacked) -> None:
    first = owner.campaign("id-1").begin()
    second = owner.campaign("id-2").begin()
    assert first.train().result is not None
    used = len(owner.record.bookings.campaigns_of(1, timedelta(days=CAMPAIGN_DAYS)))
    try:
        owner.write_settings(f'accept = "any"\nmax_campaigns = {used}\n', DATA)
        said = refusal(second.train()), refusal(second.evaluate(round=0)), refusal(owner.campaign("id-3").prepare())
        explained = owner.says("policy", "--explain", "id-2")
    finally:
        owner.write_settings('accept = "any"\nmax_campaigns = 20\n', DATA)
    words = f"it is campaign {used + 1} in 30 days that uses these rows, and policy.max_campaigns = {used}"
    assert said == (f"refused-by-policy: refused by this agent's policy: {words}",) * 3
    assert words in explained
