"""A campaign of which the owner never heard, or another one than the owner said yes to.

Any campaign named any data table, and its first task started work. A template of the base model that is programmed
by the campaign's day read any part of any prompt, and only the day of each task changed.

Now the owner accepts a campaign once, by the digest of all that it says, its day included; the first task of an
unknown one is refused, whatever it is; and what is said beside the digest later changes nothing.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from agent.record.campaigns import Decision
from shared.campaign.digest import spec_sha256
from tests.agent.parts import CREATED_ON
from tests.attacks.attacked import Attacked, attacked
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

WAITING = "waiting-for-owner: waiting for its owner to accept the campaign"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent with the default settings: its owner accepts by hand."""
    with attacked(tmp_path_factory.mktemp("asked"), model) as running:
        yield running


@pytest.mark.parametrize("data", ["patients", "salaries", "nothing-here"])
def test_no_data_table_is_worked_on_before_its_owner_was_asked(asked: Attacked, data: str) -> None:
    """And the answer does not tell which tables there are."""
    campaign = asked.campaign(f"first-{data}", name=f"first-{data}", data={"name": data})
    campaign.fingerprint, campaign.adapter = dict.fromkeys(_PARTS, "a" * 64), asked.coordinator.adapter_ref
    unknown = "contract-mismatch: campaign_id: this agent was not asked to accept this campaign, or has forgotten it"
    assert refusal(campaign.train()) == unknown
    assert [refusal(campaign.prepare()) for _ in range(3)] == [WAITING] * 3
    assert refusal(campaign.train()) == WAITING
    assert asked.printed().count(f"fedloom agent approve {spec_sha256(campaign.spec, CREATED_ON)} --yes") == 1
    assert "waits for you" in asked.says("campaigns")
    assert asked.totals(campaign.id).n_trainings == 0


def test_a_yes_is_to_one_digest_and_one_day(asked: Attacked) -> None:
    campaign = asked.campaign("dated", name="dated")
    assert refusal(campaign.prepare()) == WAITING
    assert "you take part in dated" in asked.approves("dated")
    campaign.begin()
    assert campaign.train().result is not None
    digest = spec_sha256(campaign.spec, CREATED_ON)
    for days in (1, 2, 300):
        day = CREATED_ON + timedelta(days)
        assert refusal(campaign.prepare(created_on=day)).startswith(
            "contract-mismatch: spec_sha256: it is not the digest of the specification that came with it"
        )
        assert refusal(campaign.prepare(created_on=day, spec_sha256=spec_sha256(campaign.spec, day))) == WAITING
        assert refusal(campaign.train(round=2)) == (
            f"contract-mismatch: spec_sha256: it is not {spec_sha256(campaign.spec, day)[:12]}…, which was accepted"
        )
    assert refusal(campaign.prepare()) == WAITING, "the first one too: the coordinator has shown another"
    assert asked.record.campaigns.find("dated").spec_sha256 == digest
    assert asked.totals("dated").n_trainings == 1


def test_a_day_of_a_task_is_not_heard(asked: Attacked) -> None:
    campaign = asked.campaign("dated-tasks", name="dated-tasks")
    campaign.prepare()
    asked.approves("dated-tasks")
    campaign.begin()
    first = campaign.train()
    for days in (1, 40):
        more = {"created_on": date(2026, 1, 1).replace(day=1 + days % 28).isoformat(), "template": "alpaca"}
        again = asked.coordinator.do_with(campaign.training(), more)
        assert (again.result, again.files) == (first.result, first.files)


def test_what_is_said_beside_the_digest_is_believed_once(asked: Attacked) -> None:
    """The company that the owner was shown is the company of the record, and the algorithm is what was accepted."""
    campaign = asked.campaign("company", name="company")
    assert refusal(campaign.prepare(participants=["ada", "bob", "cyd"], n_participants=3)) == WAITING
    asked.approves("company")
    later = campaign.prepare(participants=["ada"], n_participants=1, plain_client=False, mixes_ranks=True)
    assert later.result is not None
    known = asked.record.campaigns.find("company")
    assert known is not None
    assert (known.terms.n_participants, known.terms.plain_client, known.terms.mixes_ranks) == (3, True, False)
    assert known.decision is Decision.ACCEPTED
    campaign.begin()
    said = refusal(campaign.train(n_clients=1, n_in_round=1))
    assert said == (
        "refused-by-policy: refused by this agent's policy: the campaign has 1 client, and policy.min_participants = "
        "3; round 1 has 1 client, and policy.min_in_round = 2"
    )


def test_paused_left_and_refused_campaigns_get_nothing(asked: Attacked) -> None:
    campaign = asked.campaign("ended", name="ended")
    campaign.prepare()
    asked.approves("ended")
    campaign.begin()
    assert campaign.train().result is not None
    asked.says("pause", "ended")
    paused = "paused-by-owner: paused by its owner"
    assert [refusal(campaign.train()), refusal(campaign.train(round=2)), refusal(campaign.prepare())] == [paused] * 3
    asked.says("leave", "ended")
    left = "refused-by-owner: its owner has left the campaign"
    assert [refusal(campaign.train()), refusal(campaign.evaluate(round=0))] == [left] * 2
    forgotten = asked.says("forget", "ended")
    assert (
        "not forgotten: 1 training of 40 rows and 0 evaluations, which count towards your limits as before" in forgotten
    )
    assert refusal(campaign.prepare()) == WAITING
    assert asked.totals("ended").n_trainings == 1


_PARTS = ("weights", "config", "tokenizer", "template")
