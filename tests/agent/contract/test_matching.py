"""Data that is bound to campaigns: what is accepted by rule, and what no decision opens."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.data.source import DataSource
from agent.record.campaigns import Decider, Decision
from shared.wire.tasks.leases import FailureKind
from tests.agent.owner import Owner
from tests.agent.parts import campaign_spec, digest_of, prepare_assignment, train_assignment

DIGEST = digest_of(campaign_spec())
ID = "0123456789abcdef" * 2
OTHER_ID = "f" * 32


@pytest.fixture
def matching(tmp_path: Path) -> Owner:
    return Owner(tmp_path / "home", accept="matching")


def test_a_campaign_whose_digest_the_data_names_is_accepted_by_rule(matching: Owner) -> None:
    matching.change_data(campaigns=[OTHER_ID, DIGEST])
    matching.admit(prepare_assignment(campaign_id=ID))
    assert (matching.known(ID).decision, matching.known(ID).decided_by) == (Decision.ACCEPTED, Decider.RULES)
    assert matching.asked == []


@pytest.mark.parametrize("campaigns", [None, [], [OTHER_ID], [ID], ["0" + DIGEST[1:]], [DIGEST[:32]]])
def test_others_wait_for_the_owner(matching: Owner, campaigns: list[str] | None) -> None:
    matching.change_data(campaigns=campaigns)
    refusal = matching.refusal(prepare_assignment(campaign_id=ID))
    if campaigns in (None, [ID]):  # an id says nothing of what a campaign asks for
        assert refusal.kind is FailureKind.WAITING_FOR_OWNER
    assert matching.known(ID).decision is Decision.WAITING
    assert len(matching.asked) == 1


def test_an_id_of_the_form_of_a_digest_opens_nothing(matching: Owner) -> None:
    """A coordinator gives ids as it likes."""
    matching.change_data(campaigns=["0" * 64])
    said = matching.refusal(prepare_assignment(campaign_spec(rounds=4), campaign_id="0" * 64))
    assert said.kind is FailureKind.WAITING_FOR_OWNER
    matching.decide(Decision.ACCEPTED, "0" * 64)
    assert "data.notes.campaigns" in matching.by_policy(
        prepare_assignment(campaign_spec(rounds=4), campaign_id="0" * 64)
    )


@pytest.mark.parametrize("key", ["2f5a8c1be907", "a" * 31, "A" * 32, "a" * 63, "clinic-notes", "g" * 64])
def test_the_beginning_of_a_digest_is_not_taken_for_one(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValidationError, match=r"is neither the id of a campaign .* nor its whole digest"):
        DataSource(path=tmp_path / "notes.jsonl", campaigns=[key])


def test_data_that_is_bound_while_a_campaign_waits_accepts_it(matching: Owner) -> None:
    """Its digest is not known before it comes, and the coordinator does not ask a second time."""
    matching.refusal(prepare_assignment(campaign_id=ID))
    matching.review()
    assert matching.known(ID).decision is Decision.WAITING
    matching.change_data(campaigns=[DIGEST])
    matching.review()
    assert matching.known(ID).decided_by is Decider.RULES
    assert len(matching.asked) == 1


def test_a_campaign_on_data_that_is_not_there_waits_too(matching: Owner) -> None:
    task = prepare_assignment(campaign_spec(data={"name": "other"}))
    assert matching.refusal(task).kind is FailureKind.WAITING_FOR_OWNER


def test_a_digest_accepts_no_changed_specification(matching: Owner) -> None:
    changed = prepare_assignment(campaign_spec(rounds=4), campaign_id=ID)
    matching.change_data(campaigns=[DIGEST])
    matching.admit(prepare_assignment(campaign_id=ID))
    assert matching.refusal(changed).kind is FailureKind.WAITING_FOR_OWNER


@pytest.mark.parametrize("accept", ["ask", "any", "matching"])
def test_no_yes_opens_data_that_is_bound_to_others(tmp_path: Path, accept: str) -> None:
    owner = Owner(tmp_path / "home", accept="any")
    owner.prepare(campaign_id=ID)
    owner.decide(Decision.ACCEPTED, ID)
    owner.change(policy=owner.settings.policy.model_copy(update={"accept": accept}))
    owner.change_data(campaigns=[OTHER_ID])
    for task in (prepare_assignment(campaign_id=ID), train_assignment(campaign_id=ID)):
        said = owner.by_policy(task)
        assert said == f"the campaign is {ID} with the digest {DIGEST}, and data.notes.campaigns = a list without it"
