"""What one agent can have stored: one upload for each file of a task, of its exact size, within a limit by agent."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from coordinator.database.tables import BlobChunkRow, UploadRow
from coordinator.settings import Settings
from shared.digest import sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator, quick_settings
from tests.support.stored import stage
from tests.support.suite.tiers import EACH_STORE

Enroll = Callable[..., ScriptedAgent]
MOST_BYTES = 10_000
ONE = {"minimum": 1}


@pytest.fixture
def settings_of(updates: str) -> Callable[[Path, str | None], Settings]:
    """Settings with a small limit of bytes by agent, and of adapter 0."""

    def of(data_dir: Path, database_url: str | None) -> Settings:
        quick = quick_settings(data_dir, database_url, updates)
        small = {"max_upload_bytes_per_agent": MOST_BYTES, "max_adapter_bytes": MOST_BYTES}
        return quick.model_copy(update={"storage": quick.storage.model_copy(update=small)})

    return of


async def count(coordinator: RunningCoordinator) -> tuple[int, int]:
    """The number of uploads, and the bytes of all updates and uploads that are stored anywhere."""
    fetch = coordinator.services.database.fetch
    [(n_uploads,)] = await fetch(select(func.count()).select_from(UploadRow))
    [(n_bytes,)] = await fetch(select(func.coalesce(func.sum(func.length(BlobChunkRow.data)), 0)))
    folder = coordinator.services.settings.data_dir
    others = ("fedloom.db", "engine", "signing")
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(others)]
    return n_uploads, n_bytes + sum(path.stat().st_size for path in files)


def begin(operator: Operator, enroll: Enroll, folder: Path) -> tuple[ScriptedAgent, dict[str, Any]]:
    """An agent that holds the only train task of a campaign."""
    ada = enroll("ada")
    begin_campaign(operator, folder, [ada], selection=ONE)
    return ada, ada.lease("train")


@EACH_STORE
def test_many_files_of_one_task_need_the_room_of_one(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    _, before = either_coordinator.run(count(either_coordinator))
    n_bytes = len(adapter_bytes(tmp_path))
    for number in range(12):
        delta = adapter_bytes(tmp_path, float(number))
        ada.upload(lease, "delta", delta)
        if number % 4 == 3:
            lease = ada.lease("train")
        assert either_coordinator.run(count(either_coordinator)) == (1, before + n_bytes)
    first = ada.result(lease, ada.train_result(sha256_hex(adapter_bytes(tmp_path, 0.0))))
    assert "was not uploaded for this task" in problem(first).detail
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200


@EACH_STORE
def test_uploads_that_are_deleted_refused_or_of_a_task_that_failed_leave_nothing(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    before = either_coordinator.run(count(either_coordinator))
    delta = adapter_bytes(tmp_path, 1.0)
    for _ in range(5):
        upload_id = ada.start_upload(lease, "delta", delta).json()["id"]
        assert ada.send_chunk(lease, upload_id, 0, delta[:50]).status_code == 204
        assert ada.http.delete(f"/v1/uploads/{upload_id}", headers=ada.header(lease)).status_code == 204
        assert either_coordinator.run(count(either_coordinator)) == before
    spoilt = ada.start_upload(lease, "delta", delta).json()["id"]
    assert ada.send_chunk(lease, spoilt, 0, delta[:-1] + b"\x01").status_code == 204
    refused = ada.result(lease, ada.train_result(sha256_hex(delta)))
    assert (refused.status_code, problem(refused).kind) == (422, "bad-update")
    assert either_coordinator.run(count(either_coordinator)) == before  # at once, not at the next sweep


@EACH_STORE
def test_a_chunk_that_did_not_count_leaves_no_bytes_behind_a_shorter_one(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    _, before = either_coordinator.run(count(either_coordinator))
    delta = adapter_bytes(tmp_path, 1.0)
    upload_id = ada.start_upload(lease, "delta", delta).json()["id"]
    storage = either_coordinator.services.storage
    for offset in range(0, 40, 10):
        either_coordinator.run(stage(storage, upload_id, offset, delta[offset:]))
        assert ada.send_chunk(lease, upload_id, offset, delta[offset : offset + 10]).status_code == 204
        _, stored = either_coordinator.run(count(either_coordinator))
        assert stored <= before + len(delta)
    assert ada.send_chunk(lease, upload_id, 40, delta[40:]).status_code == 204
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200


@pytest.mark.usefixtures("coordinator")
def test_an_update_has_the_size_of_its_contract(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    n_bytes = len(adapter_bytes(tmp_path))
    for wrong in (1, n_bytes - 1):
        reply = ada.start_upload(lease, "delta", b"x", n_bytes=wrong)
        assert (reply.status_code, problem(reply).kind) == (422, "invalid")
        expected = f"{wrong} bytes are too few: a delta of this task has {n_bytes} bytes"
        assert [(each.field, each.message) for each in problem(reply).errors] == [("n_bytes", expected)]
    reply = ada.start_upload(lease, "delta", b"x", n_bytes=n_bytes + 1)
    assert (reply.status_code, problem(reply).kind) == (413, "too-large")
    assert ada.start_upload(lease, "delta", b"x", n_bytes=n_bytes).status_code == 201


@pytest.mark.usefixtures("either_coordinator")
def test_the_uploads_of_one_agent_share_a_limit(operator: Operator, enroll: Enroll) -> None:
    """Tasks that are given back keep their uploads, and an agent may have tasks of many campaigns."""
    ada = enroll("ada")
    ids = [operator.post("/v1/campaigns", campaign_body(name=f"c{n}", selection=ONE))["id"] for n in range(3)]
    for _ in ids:
        ada.prepare()
    held = []
    for n_bytes in (6000, 3000, 1001):
        lease = ada.lease("init")
        held.append(ada.start_upload(lease, "adapter", b"x", n_bytes=n_bytes))
        operator.campaign(lease["assignment"]["campaign_id"], "pause")
        assert ada.release(lease).status_code == 204
    assert [reply.status_code for reply in held] == [201, 201, 507]
    assert (problem(held[2]).kind, problem(held[2]).retryable) == ("storage-full", True)
    assert problem(held[2]).detail == (
        f"this agent's unfinished uploads would have 10001 bytes together; at most {MOST_BYTES} are allowed (the "
        "coordinator's storage.max_upload_bytes_per_agent); they end with their tasks"
    )
    operator.campaign(ids[0], "cancel")
    operator.campaign(ids[2], "resume")
    assert ada.start_upload(ada.lease("init"), "adapter", b"x", n_bytes=1001).status_code == 201


@pytest.mark.usefixtures("either_coordinator")
def test_starts_at_the_same_time_keep_the_limit_together(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    operator.post("/v1/campaigns", campaign_body(selection=ONE))
    ada.prepare()
    lease = ada.lease("init")
    with ThreadPoolExecutor(6) as pool:
        start = partial(ada.start_upload, lease, "adapter", n_bytes=MOST_BYTES)
        replies = list(pool.map(start, (bytes([number]) for number in range(12))))
    assert {reply.status_code for reply in replies} == {201}
    left = [ada.http.head(f"/v1/uploads/{reply.json()['id']}").status_code for reply in replies]
    assert left.count(204) == 1


def test_an_upload_that_is_replaced_while_it_is_checked_does_not_count(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    for number in range(6):
        first, second = (adapter_bytes(tmp_path, number + fill) for fill in (0.25, 0.5))
        digest = ada.upload(lease, "delta", first)
        with ThreadPoolExecutor(2) as pool:
            result = pool.submit(ada.result, lease, ada.train_result(digest))
            other = pool.submit(ada.start_upload, lease, "delta", second)
        if result.result().status_code == 200:
            break
        assert (result.result().status_code, problem(result.result()).kind) == (422, "invalid")
        assert other.result().status_code == 201
    else:
        assert ada.result(lease, ada.train_result(ada.upload(lease, "delta", first))).status_code == 200
    operator.wait_for(lease["assignment"]["campaign_id"], "completed")
    coordinator = either_coordinator
    operator.wait_until(lambda: coordinator.run(count(coordinator))[0], lambda n_uploads: n_uploads == 0)
    stored = operator.get("/v1/storage")["bytes_by_kind"]
    operator.wait_until(lambda: coordinator.run(count(coordinator))[1], lambda n_bytes: n_bytes <= sum(stored.values()))
