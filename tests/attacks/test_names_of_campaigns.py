"""A coordinator that calls a campaign as another one is recognised: by its id, its name or its digest.

Owners approve by what they read, and bind data to the digest that they compared with each other. Ids come from the
coordinator and names from the operator: a campaign whose id was the digest's first twelve characters had the data
of the one with the digest, without a question, and the command to approve the one took the other.

Now no id stands for a digest, and a word that may mean two campaigns decides about neither.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.record.campaigns import Decision
from shared.campaign.digest import spec_sha256
from tests.agent.parts import CREATED_ON
from tests.attacks.attacked import DATA, Attacked, attacked, spec_with
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

GOOD = spec_sha256(spec_with(), CREATED_ON)
WAITING = "waiting-for-owner: waiting for its owner to accept the campaign"


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent that accepts by rule the campaign to whose digest its data is bound."""
    folder = tmp_path_factory.mktemp("bound")
    data = DATA.replace("\n", f'\ncampaigns = ["{GOOD}"]\n', 1)
    with attacked(folder, model, 'accept = "matching"\n', data) as running:
        yield running


def test_an_id_that_is_the_bound_digest_opens_no_data(bound: Attacked) -> None:
    forged = bound.campaign(GOOD, rounds=9)
    digest = spec_sha256(forged.spec, CREATED_ON)
    words = f"the campaign is {GOOD} with the digest {digest}, and data.patients.campaigns = a list without it"
    assert refusal(forged.prepare()) == WAITING
    assert f"fedloom agent approve {digest} --yes" in bound.printed()
    said = bound.approves(forged.id)
    assert words in said
    assert "No approval overrides agent.toml" in said
    assert refusal(forged.prepare()) == WAITING
    assert bound.totals(GOOD).n_trainings == 0


def test_the_bound_digest_is_accepted_under_any_id_and_changed_under_none(bound: Attacked) -> None:
    campaign = bound.campaign("true-one").begin()
    assert campaign.train().result is not None
    changed = campaign.asked_as(rounds=9)
    assert refusal(changed.prepare()) == WAITING
    assert refusal(changed.train(round=2)) == WAITING
    assert bound.totals("true-one").n_trainings == 1


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent whose owner accepts by hand, and was asked for one campaign."""
    with attacked(tmp_path_factory.mktemp("named"), model) as running:
        assert refusal(running.campaign("true-one").prepare()) == WAITING
        yield running


@pytest.mark.parametrize("looks_like", ["the digest", "the name", "the id"])
def test_a_word_that_may_mean_two_campaigns_approves_neither(asked: Attacked, looks_like: str) -> None:
    word = {"the digest": GOOD[:12], "the name": "small", "the id": "true-one"}[looks_like]
    other = {"the digest": word, "the name": word, "the id": "false-one"}[looks_like]
    name = {"the digest": "x", "the name": "y", "the id": word}[looks_like]
    assert refusal(asked.campaign(other, rounds=9, name=name).prepare()) == WAITING
    said = asked.says("approve", word, "--yes")
    assert f"{word} may be one of 2 campaigns; name the one that you mean by its whole digest:" in said
    for campaign_id in (other, "true-one"):
        known = asked.record.campaigns.find(campaign_id)
        assert known is not None
        assert known.decision is Decision.WAITING
    asked.record.campaigns.forget(other)


def test_the_whole_digest_names_the_campaign_that_was_compared(asked: Attacked) -> None:
    assert "you take part in small" in asked.says("approve", GOOD, "--yes")
    known = asked.record.campaigns.find("true-one")
    assert known is not None
    assert known.decision is Decision.ACCEPTED
