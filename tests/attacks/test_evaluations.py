"""Evaluation as the oracle: any adapter number, as often as wanted, on rows of which nobody trains.

Evaluations of round 99999 were answered under a limit of one round, three times the same, and of data of another
name, each with a loss in full precision; falling lengths read the held-out row.

Now an adapter number is evaluated once, within the accepted rounds, from at least `min_held_out` rows, with three
digits; a further request gets the stored answer, and another adapter under the number none.
"""

from pathlib import Path

import pytest

from tests.attacks.attacked import DATA, HELD_OUT, Attacked, lines
from tests.attacks.hostile import refusal
from tests.support.scripted import adapter_bytes

pytestmark = [pytest.mark.train, pytest.mark.deep]


def test_an_adapter_is_evaluated_once_and_told_with_few_digits(owner: Attacked) -> None:
    campaign = owner.campaign("again").begin()
    answers = [campaign.evaluate(round=0) for _ in range(3)]
    shorter = [
        owner.coordinator.do_with(campaign.evaluation(round=0), {"training": {"max_length": n}, "max_length": n})
        for n in (40, 41)
    ]
    assert answers[0].result is not None
    assert all(each.result == answers[0].result for each in (*answers, *shorter))
    metrics = answers[0].result["metrics"]
    assert metrics["held_out_loss"] == float(f"{metrics['held_out_loss']:.3g}")
    assert (metrics["held_out_rows"], metrics["held_out_tokens"]) == (20, float(f"{metrics['held_out_tokens']:.2g}"))
    assert owner.totals("again").n_evaluations == 1


@pytest.mark.parametrize("number", [4, 99_999])
def test_no_adapter_beyond_the_accepted_rounds_is_evaluated(owner: Attacked, number: int) -> None:
    campaign = owner.campaign(f"beyond-{number}").begin()
    said = f"contract-mismatch: round: {number} is beyond rounds = 3 of the accepted campaign"
    assert refusal(campaign.evaluate(round=number)) == said
    assert said in owner.printed()
    assert owner.totals(campaign.id).n_evaluations == 0


def test_many_crafted_adapters_under_one_number_are_one_evaluation(owner: Attacked, tmp_path: Path) -> None:
    campaign = owner.campaign("crafted").begin()
    first = campaign.evaluate(round=1)
    assert first.result is not None
    before = set(owner.coordinator.losses())
    for fill in (0.1, 0.2, 0.3):
        other = owner.coordinator.serve(adapter_bytes(tmp_path, fill))
        assert refusal(campaign.evaluate(round=1, adapter=other)) == (
            "contract-mismatch: adapter.sha256: the evaluation of adapter 1 was begun with "
            f"{campaign.adapter['sha256'][:12]}…, and not with {other['sha256'][:12]}…"
        )
    assert set(owner.coordinator.losses()) == before
    assert owner.totals("crafted").n_evaluations == 1


def test_numbers_rise_so_that_no_earlier_one_is_used_up_later(owner: Attacked) -> None:
    campaign = owner.campaign("falling").begin()
    assert campaign.evaluate(round=3).result is not None
    said = [refusal(campaign.evaluate(round=number)) for number in (0, 2)]
    words = "comes after 3, and no rollback was declared"
    assert said == [f"contract-mismatch: round: {number} {words}" for number in (0, 2)]


def test_a_campaign_without_evaluations_has_none(owner: Attacked) -> None:
    campaign = owner.campaign("silent", evaluation={"every": 0}).begin()
    said = refusal(campaign.evaluate(round=0))
    assert said == ("contract-mismatch: evaluation.every: it is 0 in the accepted campaign, so no adapter is evaluated")


def test_rows_that_shrank_below_the_floor_are_evaluated_no_more(owner: Attacked) -> None:
    """The preparation counted enough; what is counted in the evaluation itself decides."""
    campaign = owner.campaign("shrunk").begin()
    held_out = owner.home / "held-out.jsonl"
    before = len(owner.coordinator.losses())
    try:
        held_out.write_text(lines(HELD_OUT[:19]))
        said = refusal(campaign.evaluate(round=0))
    finally:
        held_out.write_text(lines(HELD_OUT))
    words = "an evaluation would stand on 19 held-out rows, and policy.min_held_out = 20"
    assert said == f"refused-by-policy: refused by this agent's policy: {words}"
    assert words in owner.printed()
    assert len(owner.coordinator.losses()) == before
    assert owner.totals("shrunk").n_evaluations == 1, "it was booked before it was counted"


def test_an_owner_who_reports_nothing_evaluates_nothing(owner: Attacked) -> None:
    campaign = owner.campaign("mute").begin()
    try:
        owner.write_settings('accept = "any"\nmax_campaigns = 20\nreport = "none"\n', DATA)
        said = refusal(campaign.evaluate(round=0))
        trained = campaign.train()
    finally:
        owner.write_settings('accept = "any"\nmax_campaigns = 20\n', DATA)
    assert said.endswith('an evaluation reports losses, and policy.report = "none"')
    assert trained.result is not None
    assert trained.result["metrics"] == {"steps": 5}
