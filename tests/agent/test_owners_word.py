"""What the agent tells the coordinator of its owner's decisions: exactly what the coordinator has not heard."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.owner.word import unheard
from agent.record.campaigns import Decider, Decision, KnownCampaign, Terms
from shared.campaign.digest import spec_sha256
from shared.states import ParticipantState
from shared.wire.agents import OwnCampaign, Part
from tests.agent.parts import campaign_spec

P = ParticipantState
NOW = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = KnownCampaign(
    id="c1",
    coordinator="https://coordinator.example",
    name="small",
    spec_sha256=spec_sha256(campaign_spec(), NOW.date()),
    spec=campaign_spec(),
    terms=Terms(
        agent_id="a",
        created_on=NOW.date(),
        plain_client=True,
        mixes_ranks=False,
        participants=["ada"],
        n_participants=1,
    ),
    asked_at=NOW,
    decision=Decision.WAITING,
    decided_by=None,
    decided_at=None,
    pool=None,
    prepared=None,
)


def told(decision: Decision | None, participant: ParticipantState) -> Part | None:
    view = {"id": "c1", "name": "small", "state": "running", "participant": participant, "rounds_closed": 0}
    counts = {"rounds": 3, "n_train": None, "update_round": None, "update_weight": None, "history": 0}
    known = replace(KNOWN, decision=decision, decided_by=Decider.OWNER) if decision is not None else None
    return unheard(known, OwnCampaign.model_validate(view | counts))


@pytest.mark.parametrize("participant", ParticipantState)
def test_a_campaign_that_waits_is_told_by_its_tasks_alone(participant: ParticipantState) -> None:
    assert told(Decision.WAITING, participant) is None


@pytest.mark.parametrize(
    ("decision", "part", "hears_nothing_in"),
    [
        (Decision.ACCEPTED, Part.TAKES_PART, {P.PREPARING, P.PREPARED, P.FAILED, P.MISMATCHED}),
        (Decision.PAUSED, Part.PAUSED, {P.WAITING, P.PAUSED, P.LEFT, P.FAILED, P.MISMATCHED}),
        (Decision.REFUSED, Part.LEFT, {P.LEFT}),
        (Decision.LEFT, Part.LEFT, {P.LEFT}),
        (None, Part.LEFT, {P.PREPARING, P.LEFT, P.FAILED, P.MISMATCHED}),
    ],
)
def test_a_decision_is_told_where_it_was_not_heard(
    decision: Decision | None, part: Part, hears_nothing_in: set[ParticipantState]
) -> None:
    assert {state for state in ParticipantState if told(decision, state) is None} == hears_nothing_in
    assert {told(decision, state) for state in set(ParticipantState) - hears_nothing_in} == {part}
