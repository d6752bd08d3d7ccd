"""A coordinator of another time or another version: what an agent cannot read, it does not do, and no clock but its
own counts.

Quotas of 30 days and a campaign's day are worth nothing if the coordinator tells the time; a field that an agent
does not know may change what its owner was shown.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from shared.campaign.digest import spec_sha256
from shared.digest import sha256_hex
from tests.agent.parts import CREATED_ON, init_assignment, prepare_assignment
from tests.attacks.attacked import Attacked, attacked
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

NOT_THE_DIGEST = (
    "contract-mismatch: spec_sha256: it is not the digest of the specification that came with it; agent and "
    "coordinator may be of different versions"
)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent with the default quotas."""
    with attacked(tmp_path_factory.mktemp("clocks"), model, 'accept = "any"\n') as running:
        yield running


def test_a_coordinator_far_ahead_in_time_gets_no_new_month(owner: Attacked) -> None:
    for number in range(3):
        assert owner.campaign(f"of-now-{number}").begin().train().result is not None
    owner.coordinator.headers = {"Date": "Thu, 01 Jan 2099 00:00:00 GMT", "Age": "99999999"}
    later, day = owner.campaign("of-2099"), date(2099, 1, 1)
    said = refusal(later.prepare(created_on=day, spec_sha256=spec_sha256(later.spec, day)))
    owner.coordinator.headers = {}
    assert said.endswith("it is campaign 4 in 30 days that uses these rows, and policy.max_campaigns = 3")


@pytest.mark.parametrize(
    "more",
    [
        {"spec": {"training": {"batch_size": 1}}},
        {"spec": {"training": {"max_length": 24}}},
        {"spec": {"rounds": 9}},
        {"spec": {"data": {"name": "other"}}},
        {"created_on": "2099-01-01"},
    ],
    ids=str,
)
def test_a_specification_that_is_not_the_digests_is_refused(owner: Attacked, more: dict[str, Any]) -> None:
    campaign = owner.campaign("other-words")
    said = owner.coordinator.do_with(prepare_assignment(campaign.spec, campaign_id=campaign.id), more)
    assert refusal(said) == NOT_THE_DIGEST
    assert NOT_THE_DIGEST in owner.printed()
    assert owner.record.campaigns.find("other-words") is None


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "probe"},
        {"kind": "generate", "prompt": "Result of Anna Huber?"},
        {"campaign_id": "../../etc"},
        {"spec_sha256": "short"},
        {"fingerprint": {"weights": "x"}},
    ],
    ids=str,
)
def test_a_task_that_cannot_be_read_is_told_and_not_done(owner: Attacked, more: dict[str, Any]) -> None:
    said = refusal(owner.coordinator.do_with(init_assignment(campaign_id="unreadable"), more))
    assert said.startswith("unreadable-assignment: this agent cannot use the assignment as it was sent (")
    assert "Huber" not in said
    assert "the coordinator sent an assignment that cannot be used: " in owner.printed()


def test_a_field_of_a_newer_specification_is_not_accepted_unseen(owner: Attacked) -> None:
    """A newer coordinator's digest covers it. Without it in the digest, it is as if it had not been sent."""
    spec = owner.campaign("newer").spec
    more = {"upload_rows": True}
    newer = spec.model_dump(mode="json") | {"created_on": CREATED_ON.isoformat()} | more
    digest = sha256_hex(json.dumps(newer, sort_keys=True, separators=(",", ":")).encode())
    task = prepare_assignment(spec, campaign_id="newer", spec_sha256=digest)
    assert refusal(owner.coordinator.do_with(task, {"spec": more})) == NOT_THE_DIGEST
    assert owner.record.campaigns.find("newer") is None
    task = prepare_assignment(spec, campaign_id="newer")
    said = owner.coordinator.do_with(task, {"spec": more})
    assert said.result is not None or "policy.max_campaigns" in refusal(said), "accepted, and at most one too many"
    known = owner.record.campaigns.find("newer")
    assert known is not None
    assert known.spec == spec
