"""Uploads: resumable, checked, and never larger than the contract allows."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.storage.storage import Storage
from shared.adapters.files import write_adapter
from shared.digest import content_digest_header, sha256_file, sha256_hex
from shared.states import BlobKind
from shared.wire.base import CHUNK_BYTES, BlobRef
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import EACH_STORE

Enroll = Callable[..., ScriptedAgent]


def begin_training(operator: Operator, enroll: Enroll, folder: Path) -> tuple[ScriptedAgent, dict[str, Any], str]:
    """An agent that holds the only train task of a campaign."""
    ada = enroll("ada")
    campaign_id = begin_campaign(operator, folder, [ada], selection={"minimum": 1})
    return ada, ada.lease("train"), campaign_id


def offset_of(agent: ScriptedAgent, upload_id: str) -> int:
    reply = agent.http.head(f"/v1/uploads/{upload_id}")
    assert reply.status_code == 204
    return int(reply.headers["Upload-Offset"])


@EACH_STORE
@pytest.mark.usefixtures("either_coordinator")
def test_an_upload_goes_on_where_it_stopped_in_a_later_attempt_too(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease, campaign_id = begin_training(operator, enroll, tmp_path)
    delta = adapter_bytes(tmp_path, 2.0)
    started = ada.start_upload(lease, "delta", delta)
    upload = started.json()
    assert started.headers["Location"] == f"/v1/uploads/{upload['id']}"
    assert (upload["offset"], upload["n_bytes"]) == (0, len(delta))
    assert ada.send_chunk(lease, upload["id"], 0, delta[:100]).headers["Upload-Offset"] == "100"
    assert offset_of(ada, upload["id"]) == 100
    again = ada.lease("train")
    assert ada.start_upload(again, "delta", delta).json() == {**upload, "offset": 100}
    lost = ada.send_chunk(lease, upload["id"], 100, delta[100:])
    assert (lost.status_code, problem(lost).kind) == (410, "lease-lost")
    early = ada.result(again, ada.train_result(sha256_hex(delta)))
    assert (early.status_code, problem(early).errors[0].field) == (422, "delta")
    assert "100 of" in problem(early).detail
    assert ada.send_chunk(again, upload["id"], 100, delta[100:]).status_code == 204
    assert ada.result(again, ada.train_result(sha256_hex(delta))).status_code == 200
    operator.wait_for(campaign_id, "completed")
    operator.wait_until(lambda: ada.http.head(f"/v1/uploads/{upload['id']}").status_code, lambda found: found == 404)


@pytest.mark.usefixtures("coordinator")
def test_a_chunk_that_does_not_fit_changes_nothing(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, lease, _ = begin_training(operator, enroll, tmp_path)
    delta = adapter_bytes(tmp_path, 2.0)
    upload_id = ada.start_upload(lease, "delta", delta).json()["id"]
    ada.send_chunk(lease, upload_id, 0, delta[:100])
    for offset in (0, 50, 101, 10**17):
        wrong = ada.send_chunk(lease, upload_id, offset, delta[100:110])
        assert (wrong.status_code, problem(wrong).kind) == (409, "wrong-offset")
        assert wrong.headers["Upload-Offset"] == "100"
    for offset_header in ("", "x", "-1", "9" * 5000):
        wrong = ada.send_chunk(lease, upload_id, 0, b"x", **{"Upload-Offset": offset_header})
        assert (wrong.status_code, wrong.headers["Upload-Offset"]) == (409, "100")
    for digest in (content_digest_header(b"other"), "sha-256=:!:", "sha-512=:abc=:", "garbage", ""):
        corrupt = ada.send_chunk(lease, upload_id, 100, delta[100:], **{"Content-Digest": digest})
        assert (corrupt.status_code, problem(corrupt).kind, problem(corrupt).retryable) == (422, "bad-chunk", True)
    headers = {**ada.header(lease), "Upload-Offset": "100"}
    missing = ada.http.patch(f"/v1/uploads/{upload_id}", content=delta[100:], headers=headers)
    assert (missing.status_code, problem(missing).kind) == (422, "bad-chunk")
    past = ada.send_chunk(lease, upload_id, 100, delta[100:] + b"more")
    assert (past.status_code, problem(past).kind) == (413, "too-large")
    huge = ada.send_chunk(lease, upload_id, 100, bytes(CHUNK_BYTES + 1))
    assert (huge.status_code, problem(huge).kind) == (413, "too-large")
    assert offset_of(ada, upload_id) == 100
    assert ada.send_chunk(lease, upload_id, 100, delta[100:]).status_code == 204


@pytest.mark.usefixtures("coordinator")
def test_an_upload_outside_the_contract_is_refused_before_the_first_byte(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease, _ = begin_training(operator, enroll, tmp_path)
    delta = adapter_bytes(tmp_path, 2.0)
    large = ada.start_upload(lease, "delta", delta, n_bytes=len(delta) + 1)
    assert (large.status_code, problem(large).kind) == (413, "too-large")
    assert str(len(delta)) in problem(large).detail
    assert ada.start_upload(lease, "delta", delta, n_bytes=0).status_code == 422
    for purpose in ("adapter", "extras", "server_state"):
        refused = ada.start_upload(lease, purpose, delta)
        assert (refused.status_code, problem(refused).kind) == (422, "invalid")
    unknown = ada.result(lease, ada.train_result("0" * 64))
    assert "was not uploaded" in problem(unknown).detail
    assert ada.renew(lease).status_code == 200


@pytest.mark.usefixtures("coordinator")
def test_an_upload_belongs_to_its_agent(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    eve = enroll("eve")
    ada = enroll("ada")
    begin_campaign(operator, tmp_path, [ada, eve])
    lease, other = ada.lease("train"), eve.lease("train")
    delta = adapter_bytes(tmp_path, 2.0)
    upload_id = ada.start_upload(lease, "delta", delta).json()["id"]
    assert eve.http.head(f"/v1/uploads/{upload_id}").status_code == 403
    for claim in (lease, other):
        stolen = eve.send_chunk(claim, upload_id, 0, delta)
        assert (stolen.status_code, problem(stolen).kind) == (403, "forbidden")
        assert eve.http.delete(f"/v1/uploads/{upload_id}", headers=eve.header(claim)).status_code == 403
    ada.send_chunk(lease, upload_id, 0, delta)
    assert "was not uploaded" in problem(eve.result(other, eve.train_result(sha256_hex(delta)))).detail
    assert ada.http.head("/v1/uploads/none").status_code == 404


@EACH_STORE
def test_only_the_current_attempt_throws_an_upload_away(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, old, _ = begin_training(operator, enroll, tmp_path)
    delta = adapter_bytes(tmp_path, 2.0)
    upload_id = ada.start_upload(old, "delta", delta).json()["id"]
    ada.send_chunk(old, upload_id, 0, delta[:100])
    lease = ada.lease("train")
    for claim in (old, {"attempt": 1, "token": "made-up"}):
        assert ada.http.delete(f"/v1/uploads/{upload_id}", headers=ada.header(claim)).status_code == 410
    assert offset_of(ada, upload_id) == 100
    assert ada.http.delete(f"/v1/uploads/{upload_id}", headers=ada.header(lease)).status_code == 204
    assert ada.http.head(f"/v1/uploads/{upload_id}").status_code == 404
    staging = coordinator.services.storage.staging
    operator.wait_until(lambda: coordinator.run(staging.names()), lambda found: not found)  # the row goes first
    assert ada.upload(lease, "delta", delta) == sha256_hex(delta)


@EACH_STORE
@pytest.mark.usefixtures("either_coordinator")
def test_two_senders_of_one_upload_never_corrupt_it(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", {**RACE, "selection": {"minimum": 1}})
    ada.prepare()
    lease = ada.lease("init")
    noise = np.random.default_rng(1)
    tensors = {
        "m.lora_A.weight": noise.standard_normal((2, 99_000)).astype(np.float32),
        "m.lora_B.weight": np.zeros((1_000, 2), dtype=np.float32),
    }
    write_adapter(tmp_path / "large", tensors)
    data = (tmp_path / "large").read_bytes()
    upload_id = ada.start_upload(lease, "adapter", data).json()["id"]

    def send(step: int) -> None:
        offset = 0
        while offset < len(data):
            reply = ada.send_chunk(lease, upload_id, offset, data[offset : offset + step])
            assert reply.status_code in (204, 409), reply.text
            offset = int(reply.headers["Upload-Offset"])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, (40_000, 70_000, 110_000)))
    reply = ada.result(lease, {"kind": "init", "adapter": sha256_hex(data)})
    assert reply.status_code == 200, reply.text


RACE = {
    "name": "race",
    "base": {"model": "tiny"},
    "lora": {"rank": 2},
    "training": {"steps": 1},
    "data": {"name": "notes"},
    "rounds": 1,
}


async def store_uploads(storage: Storage) -> None:
    """Store all uploads as deltas."""
    for upload_id in await storage.staging.names():
        async with storage.staging.as_file(upload_id, storage.scratch) as path:
            ref = BlobRef(sha256=sha256_file(path), n_bytes=path.stat().st_size)
            await storage.store_of(BlobKind.DELTA).put(path, ref)


@EACH_STORE
def test_a_finished_upload_outlives_a_lease_that_was_lost_while_it_was_checked(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """The delta is already a blob when the lease turns out to be lost; the next attempt submits it unchanged."""
    ada, old, campaign_id = begin_training(operator, enroll, tmp_path)
    digest = ada.upload(old, "delta", adapter_bytes(tmp_path, 2.0))
    coordinator.run(store_uploads(coordinator.services.storage))  # as after a crash between storing and committing
    lease = ada.lease("train")
    assert ada.result(old, ada.train_result(digest)).status_code == 410
    assert ada.result(lease, ada.train_result(digest)).status_code == 200
    operator.wait_for(campaign_id, "completed")


@EACH_STORE
def test_stale_uploads_are_thrown_away(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease, _ = begin_training(operator, enroll, tmp_path)
    upload_id = ada.start_upload(lease, "delta", adapter_bytes(tmp_path, 2.0)).json()["id"]
    assert ada.send_chunk(lease, upload_id, 0, b"part").status_code == 204
    staging = coordinator.services.storage.staging
    assert coordinator.run(staging.names()) == {upload_id}
    coordinator.clock.move(86400 + 1)
    operator.wait_until(lambda: ada.http.head(f"/v1/uploads/{upload_id}").status_code, lambda found: found == 404)
    operator.wait_until(lambda: coordinator.run(staging.names()), lambda found: not found)  # the row goes first
