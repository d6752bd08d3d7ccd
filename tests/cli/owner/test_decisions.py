"""The owner's commands: what each does to the record, to the coordinator and to the running agent."""

import json
from collections.abc import Callable

import pytest

from agent.record.campaigns import Decision
from tests.cli.owner.conftest import OwnersAgent

NewOwner = Callable[..., OwnersAgent]
Waiting = tuple[OwnersAgent, str]


def test_a_waiting_campaign_is_listed_with_the_commands_that_answer_it(waiting: Waiting) -> None:
    owner, campaign_id = waiting
    ran = owner.says("campaigns")
    assert (ran.code, ran.err) == (0, "")
    digest = owner.asked(campaign_id).spec_sha256
    assert campaign_id in ran.out
    assert f"{digest[:12]}…" in ran.out
    assert "waits for you" in ran.out.partition("Look at it")[0]
    assert f"\n  fedloom agent approve {digest} --home {owner.home}\n" in ran.out
    assert f"\n  fedloom agent refuse {digest} --home {owner.home}\n" in ran.out
    [line] = json.loads(owner.says("campaigns", "--json").out)
    assert line["decision"] == "waiting"
    assert (line["rounds_trained"], line["rounds"], line["decided_by"]) == (0, 2, None)
    said = owner.process.process.printed()
    home = f"--home {owner.home}"
    assert f"see it with fedloom agent campaigns {digest} {home}, then type fedloom agent approve {digest}" in said
    assert f"approve {digest} --yes {home} or fedloom agent refuse {digest} {home}" in said


def test_an_approved_campaign_runs_and_shows_who_decided(waiting: Waiting) -> None:
    owner, campaign_id = waiting
    digest = owner.asked(campaign_id).spec_sha256
    ran = owner.approves(campaign_id)
    assert ran.code == 0, ran.err
    assert digest in ran.out
    assert "could learn" in ran.out
    assert f"you take part in small, by the digest\n{digest}" in ran.out
    owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
    shown = owner.says("campaigns").out
    assert "accepted by you" in shown
    assert "2/2" in shown
    assert "waits for you" not in shown
    events = [each["type"] for each in owner.operator.items(f"/v1/campaigns/{campaign_id}/events")]
    assert "agent-waits" in events
    assert "agent-back" in events


def test_a_refused_campaign_is_left_until_it_is_approved_after_all(waiting: Waiting) -> None:
    owner, campaign_id = waiting
    ran = owner.says("refuse", campaign_id)
    assert (ran.code, ran.out) == (0, "you refused small; to change that, approve it\n")
    owner.wait_for_state(campaign_id, "left")
    assert owner.says("pause", campaign_id).code == 1
    assert owner.approves(campaign_id).code == 0
    owner.operator.wait_for(campaign_id, "completed", timeout_s=60)


@pytest.mark.deep
def test_what_is_under_way_when_its_owner_pauses_is_sent_only_once_it_is_approved_again(owner: OwnersAgent) -> None:
    owner.process.recorded = {"step_s": 0.3}
    with owner.running():
        campaign_id = owner.create(rounds=2, training={"steps": 4, "batch_size": 2})
        owner.asked(campaign_id)
        assert owner.approves(campaign_id).code == 0
        owner.process.process.wait_to_print("train, round 1")
        with owner.without_coordinator():
            ran = owner.says("pause", "small", "--json")
        assert json.loads(ran.out)["told"] is False
        owner.wait_for_state(campaign_id, "paused")
        assert owner.says("pause", "small").code == 0, "a repetition changes nothing"
        assert owner.sent("delta") == []
        assert [each["kind"] for each in owner.sent("failure")] == ["waiting-for-owner", "paused-by-owner"]
        owner.operator.wait_for(campaign_id, "paused", timeout_s=60)  # nobody else is there to go on
        assert owner.approves(campaign_id).code == 0
        owner.wait_for_state(campaign_id, "prepared")
        owner.operator.post(f"/v1/campaigns/{campaign_id}/resume")
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
        assert "an earlier run finished this task" in owner.process.process.printed()
        assert owner.record.bookings.of_campaign(campaign_id).n_trainings == 2


@pytest.mark.parametrize(
    ("verb", "before", "part", "state"),
    [
        ("approve", [], "takes-part", "prepared"),
        ("refuse", [], "left", "left"),
        ("leave", ["approve"], "left", "left"),
        ("forget", [], "left", "left"),
    ],
)
def test_a_decision_that_the_coordinator_did_not_hear_is_passed_on_by_the_agent(
    new_owner: NewOwner, verb: str, before: list[str], part: str, state: str
) -> None:
    owner = new_owner(settings="[network]\nwait_s = 1\n")
    owner.process.recorded = {"step_s": 1.0}
    with owner.running():
        campaign_id = owner.create(rounds=100)
        owner.asked(campaign_id)
        owner.wait_for_state(campaign_id, "waiting")
        for earlier in before:
            assert earlier == "approve"
            assert owner.approves(campaign_id).code == 0
            owner.wait_for_state(campaign_id, "prepared")
        with owner.without_coordinator():
            ran = owner.approves(campaign_id) if verb == "approve" else owner.says(verb, "small")
        assert ran.code == 0
        assert "the coordinator was not told: " in ran.err
        assert "the decision stands; the agent passes it on while it runs, as soon as it can" in ran.err
        owner.wait_for_state(campaign_id, state)
        if not before:  # the agent of a campaign at work answers its next task instead
            said = f"told the coordinator what its owner decided about campaign small: {part}"
            owner.process.process.wait_to_print(said, timeout_s=20)


@pytest.mark.parametrize("verb", ["approve", "pause", "leave"])
def test_of_a_campaign_that_is_over_nothing_more_is_asked(waiting: Waiting, verb: str) -> None:
    owner, campaign_id = waiting
    owner.approves(campaign_id)
    owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
    yes = ["--yes"] if verb == "approve" else []
    digest = owner.asked(campaign_id).spec_sha256
    ran = owner.says(verb, digest, *yes)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("small is over: nothing more is asked of you\n")
    assert "you take part" not in ran.out
    ran = owner.says(verb, digest, *yes, "--json")
    told = json.loads(ran.out)
    assert (told["told"], told["over"]) == (False, True)


def test_forgetting_deletes_the_decision_and_keeps_what_was_counted(waiting: Waiting) -> None:
    owner, campaign_id = waiting
    owner.approves(campaign_id)
    owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
    ran = owner.says("forget", "small")
    assert (ran.code, ran.err) == (0, "")
    assert "not forgotten: 2 trainings of 4 rows and 0 evaluations" in ran.out
    assert owner.record.campaigns.find(campaign_id) is None
    assert owner.record.bookings.of_campaign(campaign_id).n_trainings == 2
    assert owner.says("forget", "small").code == 5


def test_an_approval_overrides_no_setting(waiting: Waiting) -> None:
    owner, campaign_id = waiting
    owner.write_settings(policy="rank = [4, 8]\nmax_rounds = 1\n")
    ran = owner.approves(campaign_id)
    assert ran.code == 1
    assert "your settings refuse it:" in ran.err
    assert "- lora.rank is 2, and policy.rank = [4, 8]" in ran.err
    assert "- rounds is 2, and policy.max_rounds = 1" in ran.err
    assert "No approval overrides agent.toml" in ran.err
    assert owner.asked(campaign_id).decision is Decision.WAITING
    owner.write_settings()
    (owner.home / "agent.toml").write_text((owner.home / "agent.toml").read_text().replace("data.notes", "data.other"))
    said = "- the campaign's data is notes, and data.notes = no table (describe it in a table [data.notes])"
    assert said in owner.approves(campaign_id).err
