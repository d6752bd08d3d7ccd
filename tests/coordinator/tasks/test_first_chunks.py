"""The request that begins an upload may carry its first chunk, for a small file the whole of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.digest import content_digest_header, sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import EACH_STORE

Enroll = Callable[..., ScriptedAgent]


@pytest.fixture
def delta(tmp_path: Path) -> bytes:
    return adapter_bytes(tmp_path, 2.0)


def begin(operator: Operator, enroll: Enroll, folder: Path) -> tuple[ScriptedAgent, dict[str, Any]]:
    """An agent that holds the only train task of a campaign."""
    ada = enroll("ada")
    begin_campaign(operator, folder, [ada], selection={"minimum": 1})
    return ada, ada.lease("train")


def offset_in(reply: httpx.Response) -> int:
    assert reply.status_code == 201, reply.text
    return int(reply.json()["offset"])


@EACH_STORE
@pytest.mark.usefixtures("either_coordinator")
def test_a_small_file_needs_one_request_which_may_be_repeated(
    operator: Operator, enroll: Enroll, tmp_path: Path, delta: bytes
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    replies = [ada.start_upload(lease, "delta", delta, first=delta) for _ in range(2)]
    assert [offset_in(reply) for reply in replies] == [len(delta)] * 2
    assert replies[0].json() == replies[1].json()
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200
    operator.wait_for(lease["assignment"]["campaign_id"], "completed")


@EACH_STORE
@pytest.mark.usefixtures("either_coordinator")
def test_a_file_goes_on_behind_its_first_chunk(
    operator: Operator, enroll: Enroll, tmp_path: Path, delta: bytes
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    started = ada.start_upload(lease, "delta", delta, first=delta[:100])
    assert offset_in(started) == 100
    assert ada.send_chunk(lease, started.json()["id"], 100, delta[100:]).status_code == 204
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200


@pytest.mark.usefixtures("coordinator")
def test_an_upload_that_has_bytes_ignores_a_first_chunk(
    operator: Operator, enroll: Enroll, tmp_path: Path, delta: bytes
) -> None:
    """Also a corrupt one: of what an earlier attempt sent nothing is sent again, and the connection stays open."""
    ada, old = begin(operator, enroll, tmp_path)
    ada.start_upload(old, "delta", delta, first=delta[:100])
    lease = ada.lease("train")
    again = ada.start_upload(lease, "delta", delta, first=b"x" * 50, **{"Content-Digest": content_digest_header(b"y")})
    assert offset_in(again) == 100
    assert "Connection" not in again.headers
    assert ada.start_upload(old, "delta", delta, first=delta).status_code == 410
    assert ada.send_chunk(lease, again.json()["id"], 100, delta[100:]).status_code == 204
    assert ada.result(lease, ada.train_result(sha256_hex(delta))).status_code == 200


@pytest.mark.usefixtures("coordinator")
def test_a_first_chunk_that_does_not_fit_begins_an_empty_upload(
    operator: Operator, enroll: Enroll, tmp_path: Path, delta: bytes
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    corrupt = ada.start_upload(lease, "delta", delta, first=delta, **{"Content-Digest": content_digest_header(b"y")})
    assert (corrupt.status_code, problem(corrupt).kind, problem(corrupt).retryable) == (422, "bad-chunk", True)
    facts = {"purpose": "delta", "sha256": sha256_hex(delta), "n_bytes": len(delta)}
    path, header = f"/v1/leases/{lease['task_id']}/uploads", ada.header(lease)
    undigested = ada.http.post(path, params=facts, content=delta, headers=header)
    assert (undigested.status_code, problem(undigested).kind) == (422, "bad-chunk")
    for content in (delta + b"more", iter([delta, b"more"])):
        past = ada.http.post(
            path, params=facts, content=content, headers={**header, "Content-Digest": content_digest_header(delta)}
        )
        assert (past.status_code, problem(past).kind) == (413, "too-large")
    assert offset_in(ada.start_upload(lease, "delta", delta)) == 0
    assert ada.upload(lease, "delta", delta) == sha256_hex(delta)


def test_nothing_of_a_refused_file_is_stored(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, delta: bytes
) -> None:
    ada, lease = begin(operator, enroll, tmp_path)
    large = ada.start_upload(lease, "delta", delta, len(delta) + 1, first=delta)
    assert (large.status_code, problem(large).kind) == (413, "too-large")
    for changed in ({"n_bytes": "0"}, {"n_bytes": "x"}, {"sha256": "0"}, {"purpose": "server_state"}, {"other": "1"}):
        facts = {"purpose": "delta", "sha256": sha256_hex(delta), "n_bytes": len(delta), **changed}
        headers = {**ada.header(lease), "Content-Digest": content_digest_header(delta)}
        reply = ada.http.post(f"/v1/leases/{lease['task_id']}/uploads", params=facts, content=delta, headers=headers)
        assert (reply.status_code, problem(reply).kind) == (422, "invalid")
        assert problem(reply).errors[0].field == next(iter(changed))
    assert not coordinator.run(coordinator.services.storage.staging.names())
