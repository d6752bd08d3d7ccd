"""A coordinator that declares rollbacks and restores, or enrols the agent anew, to have the same rounds again.

Rollbacks are honest moves, after which rounds are trained again; each one that is only declared gives another
update and another loss of the same rows. A new enrolment or another coordinator knew nothing of what had been done.

Now each history is booked, a few are followed (`max_rollbacks`), and the record belongs to the folder and its rows:
it outlives the enrolment, the campaign's decision and the coordinator.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.workspace import Identity
from tests.agent.scripted_coordinator import scripted_coordinator
from tests.attacks.attacked import Attacked, attacked
from tests.attacks.hostile import HostileCoordinator, refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent that accepts by rule, with the default quotas."""
    with attacked(tmp_path_factory.mktemp("histories"), model, 'accept = "any"\n') as running:
        yield running


def test_a_storm_of_declared_rollbacks_ends_after_a_few(owner: Attacked) -> None:
    campaign = owner.campaign("stormy").begin()
    done = [campaign.train(history=history) for history in range(4)]
    assert all(each.result is not None for each in done)
    assert len({each.files["delta"] for each in done}) == 1, "one adapter and one seed give one update"
    words = "the campaign was rolled back or restored 4 times, and policy.max_rollbacks = 3"
    for history in (4, 5, 1_000_000):
        assert refusal(campaign.train(history=history)) == (
            f"refused-by-policy: refused by this agent's policy: {words}"
        )
        assert refusal(campaign.evaluate(round=0, history=history)).endswith(words)
    assert words in owner.printed()
    assert "campaign small was rolled back or restored: rounds are done again" in owner.printed()
    assert owner.totals("stormy").n_trainings == 4
    assert refusal(campaign.train(round=2, history=2)) == "contract-mismatch: history: it is 2, and was 3 before"


def test_evaluations_and_trainings_share_their_histories(owner: Attacked) -> None:
    campaign = owner.campaign("mixed").begin()
    for history in (0, 1):
        assert campaign.evaluate(round=0, history=history).result is not None
    for history in (2, 3):
        assert campaign.train(history=history).result is not None
    said = refusal(campaign.evaluate(round=0, history=4))
    assert said.endswith("was rolled back or restored 4 times, and policy.max_rollbacks = 3")
    assert owner.totals("mixed").n_evaluations == 2


def test_passes_over_the_rows_are_counted_over_all_histories(owner: Attacked) -> None:
    """Three rounds of 160 rows are 8 passes over 60 rows; the limit is 10."""
    campaign = owner.campaign("passes", training={"batch_size": 32}).begin()
    start = campaign.adapter
    for number in (1, 2, 3):
        assert campaign.train(round=number, adapter=start).result is not None
    said = refusal(campaign.train(history=1))
    words = "10.67 passes over 60 rows would be made for this campaign, and policy.max_epochs = 10"
    assert said == f"refused-by-policy: refused by this agent's policy: {words}"
    assert words in owner.says("policy", "--explain", "passes") + owner.printed()


def test_another_enrolment_or_coordinator_finds_the_same_record(owner: Attacked, tmp_path: Path) -> None:
    """With the same campaign id and with others: the rows have been used by three campaigns."""
    owner.agent.process.stop()
    first, mine = owner.coordinator, owner.home / "identity.json"
    with scripted_coordinator(tmp_path, HostileCoordinator) as second:
        identity = Identity(
            coordinator=second.url, agent_id="another", name="ada", secret="s", signing_key=second.key.public
        )
        mine.unlink()
        owner.coordinator = second
        workspace = second.enroll(tmp_path / "unused").workspace
        assert workspace.read_identity().coordinator == second.url
        mine.write_text(identity.model_dump_json())
        owner.agent.start()
        again = owner.campaign("stormy")
        unknown = "campaign_id: this agent was not asked to accept this campaign, or has forgotten it"
        again.fingerprint, again.adapter = dict.fromkeys(_PARTS, "a" * 64), second.adapter_ref
        assert refusal(again.train()) == f"contract-mismatch: {unknown}"
        again.begin()
        assert refusal(again.train(round=1, history=4)).endswith("policy.max_rollbacks = 3")
        assert refusal(owner.campaign("of-the-second").prepare()).endswith(
            "it is campaign 4 in 30 days that uses these rows, and policy.max_campaigns = 3"
        )
        owner.agent.process.stop()
    owner.coordinator = first
    assert owner.totals("stormy").n_trainings == 4


_PARTS = ("weights", "config", "tokenizer", "template")
