"""A campaign that is made to be legible: one row, one step, few tokens, or an adapter as wide as the model.

The gradient of one row named each of its tokens, prompt included, from one update, with no loss reported; with
several lengths it gave their order. Campaigns of one step and one row were the tool of every other attack.

Now the owner's floors and ranges refuse them before anybody is asked, a file is fetched or a row is read, by every
key that they do not fit, and no approval overrides one.
"""

from typing import Any

import pytest

from agent.record.campaigns import Decision
from shared.campaign.digest import spec_sha256
from tests.agent.parts import CREATED_ON
from tests.attacks.attacked import Attacked
from tests.attacks.hostile import refusal

pytestmark = pytest.mark.train

BY_POLICY = "refused-by-policy: refused by this agent's policy: "
ROWS_OF_A_ROUND = "(raise training.steps or training.batch_size)"
SMALL = {
    "one row": (
        {"training": {"steps": 1, "batch_size": 1}},
        "training.batch_size is 1, and policy.batch_size = [8, 512]; an update would stand on 1 distinct row, and "
        f"policy.min_rows = 40 {ROWS_OF_A_ROUND}",
    ),
    "one row, many times": (
        {"training": {"steps": 40, "batch_size": 1}},
        "training.batch_size is 1, and policy.batch_size = [8, 512]",
    ),
    "one short of the floor": (
        {"training": {"steps": 3, "batch_size": 13}},
        f"an update would stand on 39 distinct rows, and policy.min_rows = 40 {ROWS_OF_A_ROUND}",
    ),
    "cut rows": (
        {"training": {"max_length": 63}},
        "training.max_length is 63, and policy.max_length = [64, 8192]",
    ),
    "a wide adapter": (
        {"lora": {"rank": 1024}},
        "lora.rank is 1024, and policy.rank = [1, 64]",
    ),
    "a huge batch": (
        {"training": {"steps": 1, "batch_size": 65_536}},
        "training.batch_size is 65536, and policy.batch_size = [8, 512]",
    ),
    "alone": (
        {"selection": {"minimum": 1}},
        "selection.minimum is 1, so the campaign may start with so few clients, and policy.min_participants = 3 "
        "(set selection.minimum to 3 or more)",
    ),
    "updates that stay": (
        {"retention": {"updates": 3}},
        "retention.updates is 3: the coordinator would keep each update for that long, and policy.retention_updates "
        "= 0",
    ),
    "a base of the sender's": (
        {"base": {"model": "attacker/oracle"}},
        "the base model is attacker/oracle, and policy.base_models = [] (to allow it, add it there, or map it to a "
        'folder in [models]: "attacker/oracle" = ...)',
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_campaign_that_would_be_legible_is_refused_by_each_key(owner: Attacked, name: str) -> None:
    changes, words = SMALL[name]
    campaign = owner.campaign(f"small-{[*SMALL].index(name)}", **changes)
    assert refusal(campaign.prepare()) == BY_POLICY + words
    assert words in owner.printed()
    known = owner.record.campaigns.find(campaign.id)
    assert known is not None
    assert known.decision is Decision.WAITING, "noted, as the settings may change"
    assert known.spec_sha256 not in owner.printed(), "and nobody is asked"
    assert "No approval overrides agent.toml" in owner.approves(campaign.id)
    assert refusal(campaign.prepare()) == BY_POLICY + words
    assert owner.totals(campaign.id).n_trainings == 0


def test_all_that_is_wrong_is_named_at_once(owner: Attacked) -> None:
    changes: dict[str, Any] = {"lora": {"rank": 1024}, "training": {"steps": 1, "batch_size": 1, "max_length": 24}}
    said = refusal(owner.campaign("legible", **changes).prepare())
    for key in ("policy.batch_size = [8, 512]", "policy.max_length = [64, 8192]", "policy.rank = [1, 64]"):
        assert key in said
    assert "policy.min_rows = 40" in said


def test_without_a_preparation_no_task_of_such_a_campaign_is_done(owner: Attacked) -> None:
    """The first task that comes may be any."""
    campaign = owner.campaign("never-asked", training={"steps": 1, "batch_size": 1})
    campaign.adapter, campaign.fingerprint = (
        owner.coordinator.adapter_ref,
        dict.fromkeys(("weights", "config", "tokenizer", "template"), "a" * 64),
    )
    unknown = "contract-mismatch: campaign_id: this agent was not asked to accept this campaign, or has forgotten it"
    assert [refusal(campaign.train()), refusal(campaign.evaluate(round=0))] == [unknown, unknown]


def test_a_digest_of_a_harmless_campaign_does_not_let_another_one_in(owner: Attacked) -> None:
    harmless, legible = owner.campaign("two-faced"), owner.campaign("two-faced", training={"batch_size": 1})
    shown = legible.prepare(spec_sha256=spec_sha256(harmless.spec, CREATED_ON))
    assert refusal(shown) == (
        "contract-mismatch: spec_sha256: it is not the digest of the specification that came with it; agent and "
        "coordinator may be of different versions"
    )


def test_the_same_agent_does_an_honest_campaign(owner: Attacked) -> None:
    result = owner.campaign("honest").prepare().result
    assert result is not None
    assert (result["n_train"], result["n_held_out"], result["dropped"]) == (60, 20, 0)
