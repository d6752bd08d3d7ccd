"""Updates stored elsewhere than in files, as in the database for replicas without a shared folder: nothing changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.digest import sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator
from tests.support.stored import stored_bytes
from tests.support.suite.tiers import deep


@pytest.mark.parametrize("updates", ["database", deep("tree")], indirect=True)
def test_a_campaign_goes_as_with_files(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Callable[..., ScriptedAgent], tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    storage = either_coordinator.services.storage
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2, retention={"updates": 1})
    delta = adapter_bytes(tmp_path, 1.0)
    lease = ada.lease("train")
    upload_id = ada.start_upload(lease, "delta", delta).json()["id"]
    for start, end in ((0, 50), (50, 51), (51, len(delta))):
        corrupt = ada.send_chunk(lease, upload_id, start, b"x", **{"Content-Digest": "sha-256=::"})
        assert problem(corrupt).kind == "bad-chunk"
        assert ada.send_chunk(lease, upload_id, start, delta[start:end]).headers["Upload-Offset"] == str(end)
    lease = ada.lease("train")
    assert ada.start_upload(lease, "delta", delta).json()["offset"] == len(delta)
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200
    assert stored_bytes(either_coordinator, sha256_hex(delta)) == delta
    bob.train(adapter_bytes(tmp_path, 3.0))
    ada.train(adapter_bytes(tmp_path, 5.0))
    lease = bob.lease("train")
    bob.send_chunk(lease, bob.start_upload(lease, "delta", delta).json()["id"], 0, delta[:9])
    bob.train(adapter_bytes(tmp_path, 7.0), lease)
    operator.wait_for(campaign_id, "completed")

    async def left() -> set[str]:
        stored = [await store.names() for store in storage.stores]
        return (await storage.staging.names()).union(*stored)

    adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    expected = {row["blob"]["sha256"] for row in adapters}
    expected |= {share["update_sha256"] for share in adapters[2]["contributions"]}
    assert operator.wait_until(lambda: either_coordinator.run(left()), lambda found: len(found) == 5) == expected
    assert not list(storage.scratch.iterdir())
