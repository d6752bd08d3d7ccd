"""Several requests that send one upload's chunk, and what is known of a file that one process received."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.process import open_files
from coordinator.tasks import result_files
from coordinator.tasks.transfer.appending import SENDERS
from shared.digest import content_digest_header, sha256_file, sha256_hex
from tests.support.operator import Operator, problem
from tests.support.raw_http import connected, read_reply, request
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import EACH_STORE

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The uploads that were read and hashed when their result came."""
    files: list[Path] = []

    def noted(path: Path) -> str:
        files.append(path)
        return sha256_file(path)

    monkeypatch.setattr(result_files, "sha256_file", noted)
    return files


def begin(operator: Operator, enroll: Enroll, folder: Path) -> tuple[ScriptedAgent, dict[str, Any], bytes, str]:
    """An agent with the only train task of a campaign, a delta, and the id of its upload, which is empty."""
    ada = enroll("ada")
    begin_campaign(operator, folder, [ada], selection={"minimum": 1})
    lease, delta = ada.lease("train"), adapter_bytes(folder, 2.0)
    return ada, lease, delta, ada.start_upload(lease, "delta", delta).json()["id"]


def half_sent(ada: ScriptedAgent, lease: dict[str, Any], upload_id: str, chunk: bytes, n_sent: int) -> bytes:
    """The request of a chunk at 0, without its last bytes."""
    headers = {
        **{name.replace("-", "_"): value for name, value in ada.header(lease).items()},
        "Authorization": ada.http.headers["Authorization"],
        "Upload_Offset": "0",
        "Content_Digest": content_digest_header(chunk),
    }
    whole = request("PATCH", f"/v1/uploads/{upload_id}", chunk, **headers)
    return whole[: len(whole) - len(chunk) + n_sent]


@EACH_STORE
def test_a_connection_that_stands_still_gives_way_to_a_later_one(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, lease, delta, upload_id = begin(operator, enroll, tmp_path)
    wrong = b"x" * len(delta)
    with connected(either_coordinator.url, half_sent(ada, lease, upload_id, wrong, 100)) as stalled:
        operator.wait_until(lambda: is_received(either_coordinator, upload_id), bool)
        assert ada.send_chunk(lease, upload_id, 0, delta).status_code == 204
        reply = read_reply(stalled)
        assert (reply.status, reply.problem["type"].rpartition(":")[2]) == (409, "wrong-offset")
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200


@EACH_STORE
def test_more_chunks_than_files_wait_and_lose_nothing(
    either_coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_files, "_MOST_CHUNKS", 1)
    ada, bob = enroll("ada"), enroll("bob")
    begin_campaign(operator, tmp_path, [ada, bob])
    delta, leases = adapter_bytes(tmp_path, 2.0), {agent: agent.lease("train") for agent in (ada, bob)}
    of_ada, of_bob = (agent.start_upload(lease, "delta", delta).json()["id"] for agent, lease in leases.items())
    with connected(either_coordinator.url, half_sent(ada, leases[ada], of_ada, delta, 100)) as stalled:
        operator.wait_until(lambda: is_received(either_coordinator, of_ada), bool)
        refused = bob.send_chunk(leases[bob], of_bob, 0, delta)
        assert (refused.status_code, problem(refused).kind, refused.headers["Retry-After"]) == (
            *(429, "too-many-requests"),
            "1",
        )
        stalled.sendall(delta[100:])
        assert read_reply(stalled).status == 204
    assert bob.send_chunk(leases[bob], of_bob, 0, delta).status_code == 204
    for agent, lease in leases.items():
        assert agent.result(lease, agent.train_result(sha256_hex(delta))).status_code == 200


def is_received(running: RunningCoordinator, upload_id: str) -> bool:
    """Whether a request is sending a chunk of an upload."""
    return upload_id in SENDERS._receiving


def test_a_file_that_another_process_writes_to_is_left_alone(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """As a replica that shares the data folder does."""
    ada, lease, delta, upload_id = begin(operator, enroll, tmp_path)
    assert ada.send_chunk(lease, upload_id, 0, delta[:100]).status_code == 204
    path = coordinator.services.settings.data_dir / "uploads" / upload_id
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        busy = ada.send_chunk(lease, upload_id, 100, delta[100:])
        assert (busy.status_code, problem(busy).kind, busy.headers["Upload-Offset"]) == (409, "wrong-offset", "100")
        assert path.read_bytes() == delta[:100]
    assert ada.send_chunk(lease, upload_id, 100, delta[100:]).status_code == 204
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200


@pytest.mark.usefixtures("coordinator")
def test_a_file_that_was_hashed_as_it_came_is_not_read_again(
    operator: Operator, enroll: Enroll, tmp_path: Path, hashed: list[Path]
) -> None:
    ada, lease, delta, upload_id = begin(operator, enroll, tmp_path)
    hashed.clear()
    for start, end in ((0, 100), (100, 200), (200, len(delta))):
        corrupt = ada.send_chunk(lease, upload_id, start, b"x" * (end - start), **{"Content-Digest": "sha-256=:eA==:"})
        assert corrupt.status_code == 422
        assert ada.send_chunk(lease, upload_id, start, delta[start:end]).status_code == 204
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200
    assert hashed == []


def test_a_file_of_which_this_process_received_only_a_part_is_hashed(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, hashed: list[Path]
) -> None:
    ada, lease, delta, upload_id = begin(operator, enroll, tmp_path)
    hashed.clear()
    assert ada.send_chunk(lease, upload_id, 0, delta[:100]).status_code == 204
    coordinator.services.storage.staging._digests.forget(upload_id)  # type: ignore[attr-defined]  # as after a restart
    assert ada.send_chunk(lease, upload_id, 100, delta[100:-1] + b"\x01").status_code == 204
    refused = ada.result(lease, ada.train_result(sha256_hex(delta)))
    assert (refused.status_code, problem(refused).kind) == (422, "bad-update")
    assert [path.name for path in hashed] == [upload_id]
