"""A campaign is accepted once, by the digest of its whole specification."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.record import campaigns
from agent.record.campaigns import MAX_WAITING, Decider, Decision
from shared.wire.tasks.assignments import Assignment
from shared.wire.tasks.leases import FailureKind
from tests.agent.owner import URL, Owner
from tests.agent.parts import (
    campaign_spec,
    digest_of,
    evaluate_assignment,
    init_assignment,
    prepare_assignment,
    train_assignment,
)

TASKS = [prepare_assignment, init_assignment, train_assignment, evaluate_assignment]
MakeTask = Callable[..., Assignment]
OTHER = campaign_spec(rounds=4)


@pytest.fixture
def asks(tmp_path: Path) -> Owner:
    """An owner who accepts by hand."""
    return Owner(tmp_path / "home", accept="ask")


def test_a_campaign_waits_until_its_owner_accepts_it_and_is_asked_about_once(asks: Owner) -> None:
    for _ in range(3):
        failure = asks.refusal(prepare_assignment())
        assert failure.kind is FailureKind.WAITING_FOR_OWNER
        assert failure.message == "waiting for its owner to accept the campaign"
    assert [campaign.name for campaign in asks.asked] == ["small"]
    waiting = asks.known()
    assert (waiting.decision, waiting.decided_by, waiting.coordinator) == (Decision.WAITING, None, URL)
    assert (waiting.spec, waiting.spec_sha256) == (campaign_spec(), digest_of(campaign_spec()))
    assert (waiting.terms.participants, waiting.terms.n_participants) == (["ada", "bob", "cyd"], 3)
    asks.decide(Decision.ACCEPTED)
    for _ in range(2):
        assert asks.admit(prepare_assignment()).job.campaign_name == "small"
    assert len(asks.asked) == 1


def test_an_owner_is_not_asked_again_after_a_restart(asks: Owner) -> None:
    asks.refusal(prepare_assignment())
    restarted = Owner(asks.home, accept="ask")
    assert restarted.refusal(prepare_assignment()).kind is FailureKind.WAITING_FOR_OWNER
    restarted.decide(Decision.ACCEPTED)
    again = Owner(asks.home, accept="ask")
    again.admit(prepare_assignment())
    assert again.asked == []


def test_a_restarted_agent_reminds_of_what_waits_and_asks_nobody_twice(asks: Owner) -> None:
    asks.refusal(prepare_assignment())
    asks.change(policy=asks.settings.policy.model_copy(update={"max_rounds": 3}))
    restarted = Owner(asks.home, accept="ask")
    reminded = restarted.remind()
    restarted.review()
    restarted.refusal(prepare_assignment())
    assert ([each.name for each in reminded], restarted.asked) == (["small"], [])


@pytest.mark.parametrize("make", TASKS)
@pytest.mark.parametrize(
    ("decision", "kind", "words"),
    [
        (Decision.WAITING, FailureKind.WAITING_FOR_OWNER, "waiting for its owner to accept the campaign"),
        (Decision.REFUSED, FailureKind.REFUSED_BY_OWNER, "its owner refused the campaign"),
        (Decision.PAUSED, FailureKind.PAUSED_BY_OWNER, "paused by its owner"),
        (Decision.LEFT, FailureKind.REFUSED_BY_OWNER, "its owner has left the campaign"),
    ],
)
def test_without_a_yes_no_task_is_done(
    owner: Owner, make: MakeTask, decision: Decision, kind: FailureKind, words: str
) -> None:
    owner.prepare()
    owner.change(policy=owner.settings.policy.model_copy(update={"accept": "ask"}))
    owner.decide(decision)
    failure = owner.refusal(make())
    assert (failure.kind, failure.message) == (kind, words)
    assert owner.record.bookings.of_campaign("c1").n_trainings == 0
    owner.decide(Decision.ACCEPTED)
    owner.admit(make())


@pytest.mark.parametrize("decision", Decision)
def test_a_changed_specification_waits_again_whatever_was_decided(asks: Owner, decision: Decision) -> None:
    asks.refusal(prepare_assignment())
    asks.decide(decision)
    changed = prepare_assignment(OTHER)
    assert asks.refusal(changed).kind is FailureKind.WAITING_FOR_OWNER
    assert [each.spec.rounds for each in asks.asked] == [3, 4]
    assert (asks.known().decision, asks.known().decided_by) == (Decision.WAITING, None)
    if decision in (Decision.REFUSED, Decision.PAUSED, Decision.LEFT):
        asks.change(policy=asks.settings.policy.model_copy(update={"accept": "any"}))
        asks.review()
        assert asks.refusal(changed).kind is FailureKind.WAITING_FOR_OWNER, "no rule turns a no into a yes"
        asks.decide(Decision.ACCEPTED)
        asks.admit(changed)
        asks.admit(prepare_assignment())
        return
    assert asks.refusal(prepare_assignment()).kind is FailureKind.WAITING_FOR_OWNER, "the first one waits again too"


def test_a_decision_is_on_the_digest_that_was_shown(asks: Owner) -> None:
    asks.refusal(prepare_assignment())
    shown = asks.known()
    asks.refusal(prepare_assignment(OTHER))
    assert not asks.record.campaigns.decide(shown, Decision.ACCEPTED, Decider.OWNER)
    assert asks.known().decision is Decision.WAITING


@pytest.mark.parametrize("meanwhile", [Decision.REFUSED, Decision.PAUSED, Decision.LEFT, Decision.ACCEPTED])
def test_nobody_decides_over_a_decision_that_was_made_meanwhile(asks: Owner, meanwhile: Decision) -> None:
    asks.refusal(prepare_assignment())
    seen = asks.known()
    asks.decide(meanwhile)
    for decider in Decider:
        assert not asks.record.campaigns.decide(seen, Decision.ACCEPTED, decider)
    assert (asks.known().decision, asks.known().decided_by) == (meanwhile, Decider.OWNER)


def test_a_campaign_of_another_id_with_the_same_specification_is_asked_about_on_its_own(asks: Owner) -> None:
    asks.refusal(prepare_assignment())
    asks.decide(Decision.ACCEPTED)
    assert asks.refusal(prepare_assignment(campaign_id="c2")).kind is FailureKind.WAITING_FOR_OWNER


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 4},
        {"base": {"model": "tiny", "revision": "main"}},
        {"data": {"name": "notes", "template": "alpaca"}},
        {"evaluation": {"every": 2}},
        {"retention": {"updates": 1}},
        {"selection": {"labels": {"site": "a"}}},
        {"weighting": {"by": "uniform"}},
        {"deadline": {"round_s": 7}},
        {"kind": "dpo", "dpo": {"beta": 0.2}},
        {"kind": "dpo", "dpo": {"beta": 0.3}},
    ],
)
def test_the_digest_is_of_the_specification_that_came_with_it(asks: Owner, changes: dict[str, object]) -> None:
    """Also of the fields of which no job says anything."""
    shown = prepare_assignment().model_copy(update={"spec_sha256": digest_of(campaign_spec(**changes))})
    assert asks.mismatch(shown).startswith("spec_sha256: it is not the digest of the specification that came with it")
    assert asks.asked == []
    assert list(asks.record.campaigns.all()) == []


def test_what_the_policy_refuses_is_listed_with_all_keys_and_nobody_is_asked(tmp_path: Path) -> None:
    narrow = Owner(
        tmp_path / "home", accept="ask", max_rounds=2, base_models=["org/*"], batch_size=(8, 512), rank=(4, 8)
    )
    said = narrow.by_policy(prepare_assignment())
    for key in ("policy.max_rounds = 2", 'policy.base_models = ["org/*"]', "policy.batch_size = [8, 512]"):
        assert key in said
    assert "lora.rank is 2, and policy.rank = [4, 8]" in said
    assert narrow.asked == []
    assert narrow.known().decision is Decision.WAITING


def test_what_the_policy_no_longer_refuses_is_asked_about(tmp_path: Path) -> None:
    narrow = Owner(tmp_path / "home", accept="ask", max_rounds=2)
    narrow.by_policy(prepare_assignment())
    narrow.review()
    assert narrow.asked == []
    narrow.change(policy=narrow.settings.policy.model_copy(update={"max_rounds": 3}))
    for _ in range(2):
        narrow.review()
    assert [each.name for each in narrow.asked] == ["small"]


def test_a_coordinator_that_names_campaigns_without_end_fills_no_disk(asks: Owner) -> None:
    asks.refusal(prepare_assignment(campaign_id="kept"))
    asks.decide(Decision.REFUSED, "kept")
    for number in range(MAX_WAITING + 5):
        asks.refusal(prepare_assignment(campaign_id=f"c{number}"))
    known = {each.id for each in asks.record.campaigns.all()}
    assert len(known) == MAX_WAITING + 1
    assert {"kept", f"c{MAX_WAITING + 4}"} < known


def test_one_that_names_campaigns_without_end_fills_none_either_where_the_settings_accept_all(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "MAX_BY_RULES", 3)
    owner.prepare(campaign_id="worked")
    owner.train(campaign_id="worked")
    for number in range(9):
        owner.admit(prepare_assignment(campaign_id=f"c{number}"))
    assert {each.id for each in owner.record.campaigns.all()} == {"worked", "c5", "c6", "c7", "c8"}


def test_a_yes_does_not_outweigh_a_limit_that_is_set_later(asks: Owner) -> None:
    asks.refusal(prepare_assignment())
    asks.decide(Decision.ACCEPTED)
    asks.change(policy=asks.settings.policy.model_copy(update={"max_rounds": 2}))
    for task in (prepare_assignment(), init_assignment(), train_assignment(), evaluate_assignment()):
        assert asks.by_policy(task) == "rounds is 3, and policy.max_rounds = 2"


def test_any_accepts_at_once_and_says_that_the_rules_did(owner: Owner) -> None:
    owner.admit(prepare_assignment())
    assert (owner.known().decision, owner.known().decided_by) == (Decision.ACCEPTED, Decider.RULES)
    assert owner.asked == []


def test_rules_accept_what_still_waits_and_nothing_that_its_owner_decided(asks: Owner) -> None:
    by_hand, by_rule = asks.settings.policy, asks.settings.policy.model_copy(update={"accept": "any"})
    for decision in (Decision.REFUSED, Decision.PAUSED, Decision.LEFT):
        asks.change(policy=by_hand)
        asks.refusal(prepare_assignment(campaign_id=decision))
        asks.decide(decision, decision)
        asks.change(policy=by_rule)
        asks.refusal(prepare_assignment(campaign_id=decision))
        assert (asks.known(decision).decision, asks.known(decision).decided_by) == (decision, Decider.OWNER)
    asks.change(policy=by_hand)
    asks.refusal(prepare_assignment())
    asks.change(policy=by_rule)
    asks.admit(prepare_assignment())
    assert (asks.known().decision, asks.known().decided_by) == (Decision.ACCEPTED, Decider.RULES)


@pytest.mark.parametrize("make", [init_assignment, train_assignment, evaluate_assignment])
def test_a_campaign_that_nobody_asked_about_gets_no_work(owner: Owner, make: MakeTask) -> None:
    said = owner.mismatch(make())
    assert said == "campaign_id: this agent was not asked to accept this campaign, or has forgotten it"


def test_a_forgotten_campaign_is_asked_about_again(asks: Owner) -> None:
    asks.refusal(prepare_assignment())
    asks.decide(Decision.ACCEPTED)
    assert asks.record.campaigns.forget("c1")
    assert not asks.record.campaigns.forget("c1")
    for _ in range(2):
        assert asks.refusal(prepare_assignment()).kind is FailureKind.WAITING_FOR_OWNER
        asks.change(policy=asks.settings.policy.model_copy(update={"accept": "any"}))  # which accepts no forgotten one
