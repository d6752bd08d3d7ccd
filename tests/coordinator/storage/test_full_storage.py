"""Full storage: reported as such, nothing is lost, and the upload continues once there is space."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from coordinator.engine.aggregation import inputs
from shared.adapters.files import write_adapter
from shared.digest import sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.suite.tiers import deep

HALF = 100_000


def fill_up_and_make_room(
    running: RunningCoordinator, folder: Path, fill_up: Callable[[str], None], make_room: Callable[[str], None]
) -> None:
    """Send half of adapter 0, fail to send the rest, then send it after space is freed."""
    shapes = {"m.lora_A.weight": (2, 30_000), "m.lora_B.weight": (30_000, 2)}
    write_adapter(folder / "large", {name: np.full(shape, "A" in name, np.float32) for name, shape in shapes.items()})
    data = (folder / "large").read_bytes()
    operator = Operator(running.url, running.key)
    ada = ScriptedAgent(running.url, operator.token(), "ada")
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))["id"]
    ada.prepare()
    lease = ada.lease("init")
    upload_id = ada.start_upload(lease, "adapter", data).json()["id"]
    assert ada.send_chunk(lease, upload_id, 0, data[:HALF]).status_code == 204
    fill_up(upload_id)
    for _ in range(2):
        full = ada.send_chunk(lease, upload_id, HALF, data[HALF:])
        assert (full.status_code, problem(full).kind, problem(full).retryable) == (507, "storage-full", True)
        assert ada.http.head(f"/v1/uploads/{upload_id}").headers["Upload-Offset"] == str(HALF)
    make_room(upload_id)
    assert ada.send_chunk(lease, upload_id, HALF, data[HALF:]).status_code == 204
    assert ada.result(lease, {"kind": "init", "adapter": sha256_hex(data)}).status_code == 200
    operator.wait_for(campaign_id, "running")
    ada.http.close()


@pytest.mark.parametrize(
    ("updates", "written_to"),
    [("files", "uploads/{upload_id}"), deep("tree", f"pieces/{{upload_id}}/{HALF}")],
    indirect=["updates"],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_keeps_the_offset_and_the_upload_completes_later(
    coordinator: RunningCoordinator, tmp_path: Path, written_to: str
) -> None:
    def file_of(upload_id: str) -> Path:
        return coordinator.services.settings.data_dir / written_to.format(upload_id=upload_id)

    def fill_up(upload_id: str) -> None:
        if file_of(upload_id).exists():
            file_of(upload_id).rename(tmp_path / "aside")
        file_of(upload_id).symlink_to("/dev/full")  # every write to it fails as on a full disk

    def make_room(upload_id: str) -> None:
        file_of(upload_id).unlink()
        if (tmp_path / "aside").exists():
            (tmp_path / "aside").rename(file_of(upload_id))

    fill_up_and_make_room(coordinator, tmp_path, fill_up, make_room)


def test_a_full_database_keeps_the_offset_and_the_upload_completes_later(data_dir: Path, tmp_path: Path) -> None:
    with running_coordinator(quick_settings(data_dir, None, "database")) as running:

        async def limit(n_pages: int) -> None:
            async with running.services.database.write("test") as session:
                await session.execute(text(f"PRAGMA max_page_count={n_pages}"))

        def fill_up(_: str) -> None:
            running.run(limit(1))  # SQLite raises the limit to the current number of pages

        fill_up_and_make_room(running, tmp_path, fill_up, lambda _: running.run(limit(1 << 30)))


def test_a_full_database_is_reported_everywhere_and_the_round_closes_later(data_dir: Path, tmp_path: Path) -> None:
    with running_coordinator(quick_settings(data_dir, None)) as running:
        operator = Operator(running.url, running.key)
        ada = ScriptedAgent(running.url, operator.token(), "ada")
        campaign_id = begin_campaign(operator, tmp_path, [ada], selection={"minimum": 1}, rounds=2)
        lease = ada.lease("train")

        async def limit(n_pages: int) -> None:
            async with running.services.database.write("test") as session:
                await session.execute(text(f"PRAGMA max_page_count={n_pages}"))

        running.run(limit(1))
        for _ in range(100):  # until the free pages within the file are used up
            full = operator.http.post("/v1/tokens", json={"note": "x" * 190})
            if full.status_code != 201:
                break
        assert (full.status_code, problem(full).kind, problem(full).retryable) == (507, "storage-full", True)
        assert ada.renew(lease).status_code == 200, "requests that need no space still work"
        running.run(limit(1 << 30))
        digest = ada.upload(lease, "delta", adapter_bytes(tmp_path, 1.0))
        assert ada.result(lease, ada.train_result(digest)).status_code == 200
        ada.train(adapter_bytes(tmp_path, 1.0))
        operator.wait_for(campaign_id, "completed")
        ada.http.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_disk_full_during_aggregation_is_reported_and_retried(
    coordinator: RunningCoordinator, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = ScriptedAgent(coordinator.url, operator.token(), "ada")
    campaign_id = begin_campaign(operator, tmp_path, [ada], selection={"minimum": 1})
    monkeypatch.setattr("coordinator.engine.loop.RETRY_S", 0.2)
    real = inputs.aggregate

    def on_a_full_disk(*arguments: Any, **named: Any) -> Any:
        folder = arguments[5]
        (folder / "adapter.safetensors").symlink_to("/dev/full")
        return real(*arguments, **named)

    monkeypatch.setattr(inputs, "aggregate", on_a_full_disk)
    ada.train(adapter_bytes(tmp_path, 1.0))
    waiting = operator.wait_until(lambda: operator.get(f"/v1/campaigns/{campaign_id}"), lambda found: found["reason"])
    assert (waiting["state"], waiting["reason"]) == (
        "running",
        "the engine failed and tries again: the coordinator's storage is full; nothing was lost: free some space, "
        "then try again",
    )
    monkeypatch.setattr(inputs, "aggregate", real)
    operator.wait_for(campaign_id, "completed")
    ada.http.close()
