"""Retention: which blobs are kept, which are released, and which records of them remain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator
from tests.support.stored import stored_bytes
from tests.support.suite.tiers import EACH_STORE, soak

Enroll = Callable[..., ScriptedAgent]


@EACH_STORE
@pytest.mark.parametrize("n_kept", [soak(0), 2])
def test_retention_keeps_the_configured_blobs(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, n_kept: int
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    retention = {"adapters": 2, "updates": n_kept}
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=4, retention=retention)
    for fill in (1.1, 2.3, 3.7, 4.9):  # sums that equal no delta
        ada.train(adapter_bytes(tmp_path, fill))
        bob.train(adapter_bytes(tmp_path, fill + 0.5))
    operator.wait_for(campaign_id, "completed")

    def adapters() -> Any:
        return operator.items(f"/v1/campaigns/{campaign_id}/adapters")

    rows = operator.wait_until(adapters, lambda found: not found[2]["stored"])
    assert [row["stored"] for row in rows] == [True, False, False, True, True]
    for row in rows:
        reply = operator.http.get(f"/v1/blobs/{row['blob']['sha256']}")
        assert reply.status_code == (200 if row["stored"] else 404)
        assert row["stored"] or problem(reply).kind == "not-found"
    assert [len(row["contributions"]) for row in rows] == [0, 2, 2, 2, 2]
    assert [row["parent_sha256"] for row in rows[1:]] == [row["blob"]["sha256"] for row in rows[:-1]]
    for row in rows[1:]:
        for share in row["contributions"]:
            is_kept = stored_bytes(either_coordinator, share["update_sha256"]) is not None
            assert is_kept == (row["number"] > 4 - n_kept)
    size = len(adapter_bytes(tmp_path))
    storage = operator.wait_until(lambda: operator.get("/v1/storage"), lambda found: found["n_blobs"] == 3 + 2 * n_kept)
    assert storage["bytes_by_kind"] == {"adapter": 3 * size} | ({"delta": 2 * n_kept * size} if n_kept else {})
    assert storage["n_bytes"] == (3 + 2 * n_kept) * size


@EACH_STORE
@pytest.mark.usefixtures("either_coordinator")
def test_bytes_that_another_campaign_uses_stay(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    """Twin campaigns have equal adapters and deltas; one releases them while the other needs them."""
    ada = enroll("ada")
    body = campaign_body(selection={"minimum": 1}, rounds=3, retention={"adapters": 1})
    first, second = (operator.post("/v1/campaigns", body)["id"] for _ in range(2))
    for _ in range(2):
        ada.prepare()
    for _ in range(2):
        ada.init(adapter_bytes(tmp_path))
    for _ in range(6):
        ada.train(adapter_bytes(tmp_path, 1.0))
    for campaign_id in (first, second):
        operator.wait_for(campaign_id, "completed")
        final = operator.get(f"/v1/campaigns/{campaign_id}/adapters/3")
        assert operator.http.get(f"/v1/blobs/{final['blob']['sha256']}").status_code == 200
    operator.wait_until(lambda: operator.get("/v1/storage")["n_blobs"], lambda found: found == 2)
