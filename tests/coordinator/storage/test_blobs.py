"""Downloads: who may read which blob, and which ranges are served."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.digest import sha256_hex
from shared.states import BlobKind
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator
from tests.support.suite.tiers import EACH_STORE

Enroll = Callable[..., ScriptedAgent]


@EACH_STORE
@pytest.mark.usefixtures("either_coordinator")
def test_an_agent_reads_what_its_live_lease_names_and_nothing_else(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    begin_campaign(operator, tmp_path, [ada, bob], rounds=2)
    adapter_0, delta = adapter_bytes(tmp_path), adapter_bytes(tmp_path, 1.0)
    url = f"/v1/blobs/{sha256_hex(adapter_0)}"

    def is_forbidden(reply: httpx.Response) -> bool:
        return reply.status_code == 403 and problem(reply).kind == "forbidden"

    assert is_forbidden(bob.http.get(url))
    lease, other = ada.lease("train"), bob.lease("train")
    assert lease["assignment"]["adapter"] == {"sha256": sha256_hex(adapter_0), "n_bytes": len(adapter_0)}
    assert ada.http.get(url).content == adapter_0
    digest = ada.upload(lease, "delta", delta)
    assert ada.result(lease, ada.train_result(digest)).status_code == 200
    for agent in (ada, bob):  # neither its own delta nor another's
        assert is_forbidden(agent.http.get(f"/v1/blobs/{digest}"))
    assert is_forbidden(ada.http.get(url))  # its lease has ended
    assert bob.http.get(url).status_code == 200
    assert is_forbidden(bob.http.get("/v1/blobs/" + "0" * 64))  # the same reply: it does not reveal what exists
    assert is_forbidden(operator.http.get(f"/v1/blobs/{digest}"))
    missing = operator.http.get("/v1/blobs/" + "0" * 64)
    assert (missing.status_code, problem(missing).kind) == (404, "not-found")
    bob.release(other)
    assert is_forbidden(bob.http.get(url))


RANGES: list[tuple[str, int, slice]] = [
    ("bytes=0-9", 206, slice(0, 10)),
    ("bytes=100-", 206, slice(100, None)),
    ("bytes=-7", 206, slice(-7, None)),
    ("bytes=-99999", 206, slice(0, None)),
    ("bytes=5-99999", 206, slice(5, None)),
    ("bytes=0-0", 206, slice(0, 1)),
    ("bytes=0-1,4-5", 200, slice(0, None)),
    ("lines=0-1", 200, slice(0, None)),
    ("bytes=-", 200, slice(0, None)),
    ("bytes=x-y", 200, slice(0, None)),
    ("bytes=" + "9" * 5000 + "-", 200, slice(0, None)),
]


@pytest.mark.usefixtures("coordinator")
def test_ranges_give_the_same_bytes_as_the_whole(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada = enroll("ada")
    begin_campaign(operator, tmp_path, [ada], selection={"minimum": 1})
    data = adapter_bytes(tmp_path)
    url = f"/v1/blobs/{sha256_hex(data)}"
    whole = operator.http.get(url)
    assert whole.content == data
    assert whole.headers["ETag"] == f'"{sha256_hex(data)}"'
    assert whole.headers["Accept-Ranges"] == "bytes"
    for header, status, part in RANGES:
        reply = operator.http.get(url, headers={"Range": header})
        assert (reply.status_code, reply.content) == (status, data[part]), header[:20]
        if status == 206:
            start = range(len(data))[part][0]
            assert reply.headers["Content-Range"] == f"bytes {start}-{start + len(reply.content) - 1}/{len(data)}"
    for header in (f"bytes={len(data)}-", "bytes=-0", "bytes=9-3"):
        refused = operator.http.get(url, headers={"Range": header})
        assert (refused.status_code, problem(refused).kind) == (416, "range-not-satisfiable")
        assert refused.headers["Content-Range"] == f"bytes */{len(data)}"
    resumed = data[:33] + operator.http.get(url, headers={"Range": "bytes=33-"}).content
    assert sha256_hex(resumed) == sha256_hex(data)


@EACH_STORE
def test_equal_bytes_of_two_kinds_are_released_separately(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """A delta of zeros has the same bytes as adapter 0, which stays stored."""
    storage = coordinator.services.storage
    updates, adapters = storage.store_of(BlobKind.DELTA), storage.store_of(BlobKind.ADAPTER)
    ada = enroll("ada")
    campaign_id = begin_campaign(operator, tmp_path, [ada], selection={"minimum": 1})
    ada.train(adapter_bytes(tmp_path))
    operator.wait_for(campaign_id, "completed")
    operator.wait_until(lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: set(found) == {"adapter"})
    zeros = sha256_hex(adapter_bytes(tmp_path))
    left = {zeros} if updates is adapters else set()
    operator.wait_until(lambda: coordinator.run(updates.names()), lambda found: found == left)
    assert operator.http.get(f"/v1/blobs/{zeros}").status_code == 200
