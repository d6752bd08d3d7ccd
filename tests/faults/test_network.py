"""Bad networks between an agent and a coordinator: the campaign ends with the same result, and little is sent again.

All tests share one coordinator process and one agent process, with a proxy between them. Tests of a single transfer
make that transfer themselves, through a separate proxy.
"""

import asyncio
import json
import re
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from agent.network import retry
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat
from agent.network.transfer import AdapterCache, upload
from shared.digest import sha256_hex
from shared.states import BlobKind
from shared.wire.base import BlobRef
from shared.wire.tasks.leases import TaskLease
from tests.support.ledgers import api_of
from tests.support.operator import Operator
from tests.support.processes import RECORDED_CHILD, Process, QuickAgent, QuickCoordinator, ended, wait_until
from tests.support.proxy import FaultyProxy
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.suite.seeds import seed_of_today

# one coordinator for all tests, even if several workers run them
pytestmark = pytest.mark.fault

SEED = seed_of_today()
SEED_NOTE = f"FEDLOOM_FAULT_SEED={SEED}"
COLUMNS = 40_000  # 160 kB for each rank
TTL_S = 3.0
PAUSE_S = 0.02


class ImpatientAgent(QuickAgent):
    """Waits only briefly before it retries, so that a hundred cuts do not take a minute."""

    def start(self) -> None:
        script = (
            "import sys, json; from pathlib import Path; from agent import main; from agent.network import retry; "
            "main.log_to_stderr(); "
            "retry.BASE_S = float(sys.argv[3]); main.run(Path(sys.argv[1]), json.loads(sys.argv[2]))"
        )
        argv = [sys.executable, "-c", script, str(self.home), json.dumps(RECORDED_CHILD), str(PAUSE_S)]
        log = self.home.parent / f"{self.home.name}.log"
        self.process = Process(argv, log, FEDLOOM_RECORDED=json.dumps(self.recorded))


@dataclass
class Behind:
    """The coordinator as agents reach it, behind the proxy."""

    url: str
    operator: Operator


@dataclass
class Site:
    """The coordinator, the agent, and the proxy between them."""

    coordinator: QuickCoordinator
    agent: QuickAgent
    proxy: FaultyProxy

    def begin(self, rank: int, steps: int = 1) -> str:
        """Begin a campaign with this agent alone, which must download the adapter. Returns the campaign's id."""
        for file in (self.agent.home / "cache" / "adapters").iterdir():
            file.unlink()
        body = campaign_body(
            name=f"n{time.time_ns()}",
            lora={"rank": rank},
            training={"steps": steps, "batch_size": 2, "seed": 7},
            selection={"minimum": 1, "labels": {"who": "ada"}},
        )
        return str(self.coordinator.operator.post("/v1/campaigns", body)["id"])

    def end(self, campaign_id: str) -> str:
        """Wait for a campaign's end. Returns the digest of its last adapter, in which exactly one update counts."""
        operator = self.coordinator.operator
        operator.wait_for(campaign_id, "completed")
        adapter = operator.get(f"/v1/campaigns/{campaign_id}/adapters/1")
        assert len(adapter["contributions"]) == 1, SEED_NOTE
        done = [event for event in operator.events(campaign_id) if event == "task-done"]
        assert len(done) == 3, SEED_NOTE  # prepare, init, train
        return str(adapter["blob"]["sha256"])

    def chunks(self, purpose: str) -> list[tuple[str, int, int]]:
        """Upload id, size in bytes and offset of each chunk of one purpose that the coordinator accepted."""
        printed = self.coordinator.process.printed()
        uploads = set(re.findall(rf"upload (\w+) of {purpose}", printed))
        found = re.findall(r"upload (\w+): (\d+) bytes at (\d+) of", printed)
        return [(upload, int(n_bytes), int(at)) for upload, n_bytes, at in found if upload in uploads]


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("network")
    coordinator = QuickCoordinator(folder / "coordinator", FEDLOOM_LEASE__TTL_S=str(TTL_S))
    agent = ImpatientAgent(folder / "ada", step_s=0.1, size=COLUMNS)
    with FaultyProxy(coordinator.port, SEED) as proxy, ended(coordinator, agent):
        behind = Behind(proxy.url, coordinator.operator)
        agent.enroll(behind, '[data.notes]\npath = "notes.jsonl"\n', who="ada")
        (agent.home / "notes.jsonl").write_text("{}\n" * 10)
        agent.start()
        agent.process.wait_to_print("waiting for work")
        yield Site(coordinator, agent, proxy)


@pytest.fixture(scope="module")
def unbroken(whole_site: Site) -> Callable[[int], str]:
    """Final digest of an undisturbed campaign, by rank. A recorded delta is the same for any number of steps."""
    return cache(lambda rank: whole_site.end(whole_site.begin(rank)))


@pytest.fixture
def site(whole_site: Site) -> Iterator[Site]:
    whole_site.proxy.mend()
    yield whole_site
    whole_site.proxy.mend()


@pytest.mark.deep
def test_100_cuts_at_random_bytes_of_one_upload(site: Site, unbroken: Callable[[int], str]) -> None:
    rank = 125
    n_bytes = rank * COLUMNS * 4
    expected, before = unbroken(rank), len(site.chunks("delta"))
    # the first of the two uploads, of adapter 0, passes; with a margin for HTTP overhead
    first, *more = site.proxy.random_gaps(100, n_bytes - 100_000)
    site.proxy.cut([n_bytes + 50_000 + first, *more], "/uploads")
    site.proxy.requests.clear()
    assert site.end(site.begin(rank)) == expected, SEED_NOTE

    taken = site.chunks("delta")[before:]
    [delta] = {upload for upload, _, _ in taken}
    ends = (f"/v1/uploads/{delta}", "purpose=delta")
    sent = [request for request in site.proxy.requests if any(end in request.path for end in ends)]
    cut = [request for request in sent if request.fate == "cut"]
    assert len(cut) == len(site.proxy.of_fate("cut")) == 100, SEED_NOTE
    assert len({at for _, _, at in taken}) == len(taken), f"a chunk was taken twice, {SEED_NOTE}"
    size = sum(n for _, n, _ in taken)
    again = sum(request.came for request in sent) - size
    note = f"{again} of {size} bytes were sent again, {again // len(cut)} for each cut; {SEED_NOTE}"
    assert 0 <= size - n_bytes < 4096, note
    assert 0 < again <= sum(request.n_bytes for request in cut), note
    assert again < size, note  # with chunks of 32 MiB it would never end


@pytest.mark.deep
def test_a_delay_of_200_ms_each_way(site: Site, unbroken: Callable[[int], str]) -> None:
    expected = unbroken(1)
    site.proxy.delay_s = 0.2
    assert site.end(site.begin(1)) == expected


@pytest.mark.deep
def test_a_line_of_1_mbit_per_second(site: Site, unbroken: Callable[[int], str]) -> None:
    expected = unbroken(1)
    site.proxy.bytes_per_s = 125_000
    began = time.monotonic()
    assert site.end(site.begin(1)) == expected
    assert time.monotonic() - began > 3 * 4 * COLUMNS / 125_000, "the line was not slow"
    assert site.proxy.of_fate("passed") == site.proxy.requests


@pytest.mark.deep
def test_replies_that_are_lost_after_the_request_was_done(site: Site, unbroken: Callable[[int], str]) -> None:
    expected, before = unbroken(4), len(site.chunks("delta"))
    calls = {"POST": (r"/leases$", r"/uploads\?"), "PATCH": ("/v1/uploads/",), "PUT": ("/result$",)}
    for method, paths in calls.items():
        for path in paths:
            site.proxy.drop_replies(method, path)
    campaign_id = site.begin(4)
    assert site.end(campaign_id) == expected
    lost = site.proxy.of_fate("reply dropped")
    paths = [re.sub(r"\w{20,}|\w+-[\w-]+", "ID", request.path.partition("?")[0]) for request in lost]
    kinds = Counter((request.method, path) for request, path in zip(lost, paths, strict=True))
    assert kinds.pop(("PATCH", "/v1/uploads/ID"), 0) <= 2  # none for a file that one chunk held
    assert kinds == {
        ("POST", "/v1/leases"): 1,
        ("POST", "/v1/leases/ID/uploads"): 2,  # of adapter 0, and of the delta
        ("PUT", "/v1/leases/ID/result"): 3,  # of every task
    }
    taken = site.chunks("delta")[before:]
    assert [at for _, _, at in taken] == sorted({at for _, _, at in taken}), "a chunk was taken twice"
    tasks = site.coordinator.operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    assert {task["state"] for task in tasks} == {"done"}


@pytest.mark.parametrize("status", [502, 200])
def test_a_page_of_html_in_place_of_each_answer(site: Site, unbroken: Callable[[int], str], status: int) -> None:
    expected = unbroken(4)
    for method, path in (("POST", "."), ("PATCH", "."), ("PUT", "."), ("GET", "/blobs/")):
        site.proxy.answer_with_page(status, method, path)
    assert site.end(site.begin(4)) == expected
    methods = Counter(request.method for request in site.proxy.of_fate("page"))
    assert methods["GET"] == 1
    assert methods["PUT"] == 3
    assert methods["POST"] == 3  # a lease, two uploads
    assert methods["PATCH"] >= 2


@pytest.mark.deep
def test_a_proxy_that_is_away_for_longer_than_a_lease_lives(site: Site, unbroken: Callable[[int], str]) -> None:
    expected, operator = unbroken(1), site.coordinator.operator
    campaign_id = site.begin(1, steps=30)  # three seconds

    def is_training() -> bool:
        tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks", state="leased")
        return any((task["progress"] or {}).get("phase") == "training" for task in tasks)

    wait_until(is_training, "the training")
    site.proxy.is_away = True
    time.sleep(TTL_S + 1)  # the absence must be real: the lease expires, the training ends, and the agent waits
    site.proxy.is_away = False
    assert site.end(campaign_id) == expected
    events = operator.events(campaign_id)
    assert "lease-expired" in events
    printed = site.agent.process.printed()
    assert "the task continues meanwhile" in printed
    assert "got task" in printed


class Transfers:
    """A scripted agent with its own campaign that runs the agent's transfer code through a proxy."""

    def __init__(self, site: Site, folder: Path, url: str, ca_file: Path | None = None) -> None:
        operator = site.coordinator.operator
        name = f"s{time.time_ns()}"
        self.agent = ScriptedAgent(site.coordinator.url, operator.token(labels={"who": name}), name)
        body = campaign_body(name=name, selection={"minimum": 1, "labels": {"who": name}})
        self.campaign_id = operator.post("/v1/campaigns", body)["id"]
        self.agent.prepare()
        self.folder, self._url, self._ca_file = folder, url, ca_file

    def make(self, kind: str, work: Callable[[CoordinatorApi, LeaseHeartbeat], Awaitable[Any]]) -> dict[str, Any]:
        """Run *work* with the lease of the next task. Returns the lease."""
        lease = self.agent.lease(kind)

        async def main() -> None:
            api = api_of(self._url, self.agent.identity["secret"], ca_file=self._ca_file)
            heartbeat = LeaseHeartbeat(api, self.agent.instance_id, TaskLease.model_validate(lease))
            beating = asyncio.create_task(heartbeat.run())
            try:
                await work(api, heartbeat)
            finally:
                beating.cancel()
                await api.close()

        asyncio.run(main())
        return lease

    def send_adapter(self, n_columns: int) -> bytes:
        """Upload adapter 0 and complete its task. Returns its bytes."""
        name = "base_model.model.q_proj.lora_A.weight"
        values = np.random.default_rng(SEED).standard_normal((2, n_columns), dtype=np.float32)
        data = adapter_bytes(self.folder, 0.0, **{name: values})
        path = self.folder / "adapter.safetensors"
        path.write_bytes(data)
        sha256 = sha256_hex(data)
        self.make("init", lambda api, heartbeat: upload(api, heartbeat, BlobKind.ADAPTER, path, sha256))
        lease = self.agent.ask(0).json()  # the current attempt; the one before may have been lost
        assert self.agent.result(lease, {"kind": "init", "adapter": sha256}).is_success
        return data

    def fetch_adapter(self, data: bytes) -> None:
        """Download adapter 0 for the training that follows, and check that it is complete."""
        ref, cache = BlobRef(sha256=sha256_hex(data), n_bytes=len(data)), self.folder / "cache"
        cache.mkdir()
        self.make("train", lambda api, heartbeat: AdapterCache(cache, 1 << 30).fetch(api, heartbeat, ref))
        assert (cache / ref.sha256).read_bytes() == data
        assert [path.name for path in cache.iterdir()] == [ref.sha256]


def test_tls_that_ends_in_the_middle_or_is_changed_on_the_way(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BASE_S", PAUSE_S)
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with (
        FaultyProxy(site.coordinator.port, SEED, tls=context) as end_of_tls,
        FaultyProxy(end_of_tls.port, SEED, is_http=False) as line,
    ):
        transfers = Transfers(site, tmp_path, f"https://localhost:{line.port}", tmp_path / "ca.pem")
        # in the first handshake, in a record of the body, and at random places
        line.cut([100, 400_000, *line.random_gaps(8, 1_500_000)])
        line.spoil_next_reply = True
        data = transfers.send_adapter(250_000)
        assert line.cuts.n_cuts == 10, SEED_NOTE
        assert not line.spoil_next_reply
        line.cut_replies([1000, *line.random_gaps(8, 1_900_000)])
        transfers.fetch_adapter(data)
        assert line.reply_cuts.n_cuts == 9, SEED_NOTE
    assert site.coordinator.operator.campaign(transfers.campaign_id, "cancel").is_success
