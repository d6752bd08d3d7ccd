"""Outcomes of verifying a closed round: verified, differs, corrupt, or not recomputable."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from coordinator.engine.aggregation import aggregate
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body, slots_bytes
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import deep

Enroll = Callable[..., ScriptedAgent]


def run_campaign(operator: Operator, folder: Path, enroll: Enroll, *, extras: bool = False, **changes: Any) -> str:
    """Run a campaign of three rounds with two agents to its end."""
    agents = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, folder, agents, rounds=3, **changes)
    for number in (1, 2, 3):
        for agent in agents:
            fill = number + len(agent.name) / 8
            agent.train(adapter_bytes(folder, fill), extras=slots_bytes(folder, fill, "delta_c") if extras else None)
    operator.wait_for(campaign_id, "completed")
    return campaign_id


def outcomes(operator: Operator, campaign_id: str) -> list[str]:
    return [found["outcome"] for found in operator.verify(campaign_id)]


async def execute(running: RunningCoordinator, statement: str, **values: Any) -> None:
    async with running.services.database.write("test") as session:
        await session.execute(text(statement), values)


@pytest.mark.usefixtures("either_coordinator")
@pytest.mark.parametrize(
    "algorithm",
    [deep({"name": "fedavg"}), deep({"name": "fedavgm"}), {"name": "scaffold"}],
    ids=lambda found: found["name"],
)
def test_every_round_whose_updates_are_kept_is_verified(
    operator: Operator, enroll: Enroll, tmp_path: Path, algorithm: dict[str, Any]
) -> None:
    extras = algorithm["name"] == "scaffold"
    campaign_id = run_campaign(operator, tmp_path, enroll, extras=extras, algorithm=algorithm, retention={"updates": 3})
    found = operator.verify(campaign_id)
    assert [each["outcome"] for each in found] == ["verified"] * 4
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert [each["adapter_sha256"] for each in found] == [each["blob"]["sha256"] for each in adapters]
    assert [each["computed_sha256"] for each in found[1:]] == [each["blob"]["sha256"] for each in adapters[1:]]


@pytest.mark.deep
@pytest.mark.usefixtures("coordinator")
def test_a_verification_does_not_measure_the_factor_gap_again(
    operator: Operator, enroll: Enroll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll, retention={"updates": 3}, evaluation={"every": 1})
    assert len(operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="factor_gap")) == 3
    monkeypatch.delattr(aggregate, "factor_gap")
    assert outcomes(operator, campaign_id) == ["verified"] * 4


@pytest.mark.deep
@pytest.mark.usefixtures("coordinator")
def test_rounds_that_cannot_be_recomputed_are_reported_with_the_reason(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    campaign_id = run_campaign(
        operator, tmp_path, enroll, algorithm={"name": "fedavgm"}, retention={"updates": 2, "server_state": 1}
    )
    # the campaign ends before its released blobs are deleted
    expected = ["verified", "not-kept", "not-kept", "not-kept"]
    operator.wait_until(lambda: outcomes(operator, campaign_id), lambda found: found == expected, 20)
    found = operator.verify(campaign_id)
    assert found[1]["reason"] == "the updates of ada, bob are not kept (retention.updates)"
    assert found[3]["reason"] == "the server's state before it is not kept (retention.server_state)"


def test_an_adapter_or_a_lineage_that_was_changed_is_found(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll, retention={"updates": 3})
    contributions = operator.items(f"/v1/campaigns/{campaign_id}/adapters")[2]["contributions"]
    assert [share["weight"] for share in contributions] == [0.5, 0.5]
    shifted = str(contributions).replace("'", '"').replace("0.5", "0.25").replace("None", "null")
    shifted = shifted.replace("False", "false")
    change = "UPDATE adapters SET contributions = :contributions WHERE campaign_id = :id AND number = 2"
    coordinator.run(execute(coordinator, change, contributions=shifted, id=campaign_id))
    assert outcomes(operator, campaign_id) == ["verified", "verified", "differs", "verified"]
    change = "UPDATE adapters SET parent_sha256 = :other WHERE campaign_id = :id AND number = 3"
    coordinator.run(execute(coordinator, change, other="0" * 64, id=campaign_id))
    assert outcomes(operator, campaign_id) == ["verified", "verified", "differs", "differs"]


def test_a_flipped_bit_is_found_by_its_digest_and_refused(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll, retention={"updates": 3})
    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    delta = adapters[3]["contributions"][0]["update_sha256"]
    [update] = (coordinator.services.settings.data_dir / "updates").glob(f"*/{delta}")
    spoilt = bytearray(update.read_bytes())
    spoilt[-1] ^= 1
    update.write_bytes(spoilt)
    flip = "UPDATE blob_chunks SET data = zeroblob(length(data)) WHERE blob = :sha256"
    coordinator.run(execute(coordinator, flip, sha256=adapters[1]["blob"]["sha256"]))
    found = operator.verify(campaign_id)
    assert [each["outcome"] for each in found] == ["verified", "corrupt", "corrupt", "corrupt"]
    assert found[1]["reason"].startswith(f"its adapter: the bytes of blob {adapters[1]['blob']['sha256']} have")
    assert found[2]["reason"].startswith("its inputs: the bytes of blob")
    assert delta in found[3]["reason"]


def test_a_blob_that_is_missing_without_a_release_is_found(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll, retention={"updates": 3})
    last = operator.items(f"/v1/campaigns/{campaign_id}/adapters")[3]["blob"]["sha256"]
    coordinator.run(execute(coordinator, "DELETE FROM blob_chunks WHERE blob = :sha256", sha256=last))
    found = operator.verify(campaign_id)[3]
    assert (found["outcome"], found["reason"]) == ("corrupt", "its adapter should be stored, and is gone")


@pytest.mark.usefixtures("coordinator")
def test_only_closed_rounds_can_be_verified(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    early = operator.post("/v1/campaigns", campaign_body(name="early", selection={"labels": {"site": "nowhere"}}))["id"]
    campaign_id = begin_campaign(operator, tmp_path, [enroll("ada"), enroll("bob")])
    operator.wait_for(campaign_id, "running")
    assert outcomes(operator, campaign_id) == ["verified"]
    for of_campaign, body, missing in ((campaign_id, {"rounds": [0, 1]}, 1), (early, None, 0)):
        refused = operator.http.post(f"/v1/campaigns/{of_campaign}/verifications", json=body)
        assert (refused.status_code, problem(refused).detail) == (404, f"there is no round {missing}")
