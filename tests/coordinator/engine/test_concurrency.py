"""Many agents and operators at once: no server error, no deadlock, and each update counts once."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, event, update

from coordinator.database.sessions import Database
from coordinator.database.tables import BlobUseRow, UploadRow
from coordinator.storage.retention import release_blobs
from shared.digest import sha256_hex
from shared.states import BlobKind
from tests.support.messages import evaluated
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body, prepared
from tests.support.server import RunningCoordinator
from tests.support.stored import stored_bytes
from tests.support.suite.tiers import POSTGRES, deep, soak

Enroll = Callable[..., ScriptedAgent]
N_ROUNDS = 1


class Worker:
    """An agent that does every task, sometimes clumsily: it asks twice, sends twice, or releases the task."""

    def __init__(self, agent: ScriptedAgent, delta: bytes, adapter: bytes, stop: threading.Event) -> None:
        self.agent, self.delta, self.adapter, self.stop = agent, delta, adapter, stop
        self.chance = random.Random(agent.name)
        self.statuses: Counter[int] = Counter()

    def note(self, reply: httpx.Response) -> httpx.Response:
        self.statuses[reply.status_code] += 1
        assert reply.status_code < 500, reply.text
        return reply

    def run(self) -> None:
        while not self.stop.is_set():
            reply = self.note(self.agent.ask(0.5))
            if reply.status_code == 201 and self.chance.random() < 0.2:
                reply = self.note(self.agent.ask(0.5))  # as if the reply had been lost
            if reply.status_code == 201:
                self.do(reply.json())

    def do(self, lease: dict[str, Any]) -> None:
        agent, kind = self.agent, lease["assignment"]["kind"]
        self.note(agent.renew(lease, phase="training"))
        if self.chance.random() < 0.1:
            self.note(agent.release(lease))
            return
        if kind == "prepare":
            result = prepared(10, 3)
        elif kind == "evaluate":
            result = evaluated(1.0, n_rows=3, n_tokens=10)
        else:
            data = self.delta if kind == "train" else self.adapter
            upload = self.note(agent.start_upload(lease, "delta" if kind == "train" else "adapter", data)).json()
            with ThreadPoolExecutor(2) as pool:
                sent = [pool.submit(agent.send_chunk, lease, upload["id"], upload["offset"], data) for _ in range(2)]
            for each in sent:
                self.note(each.result())
            digest = sha256_hex(data)
            result = agent.train_result(digest) if kind == "train" else {"kind": "init", "adapter": digest}
        with ThreadPoolExecutor(2) as pool:
            replies = [pool.submit(agent.result, lease, result) for _ in range(2)]
        assert {self.note(each.result()).status_code for each in replies} == {200}


@pytest.mark.parametrize(
    ("database_url", "n_agents", "n_campaigns"),
    [
        deep("sqlite", 4, 2, id="sqlite"),
        soak("sqlite", 8, 3, id="sqlite, more"),
        soak("postgres", 8, 3, id="postgres"),
    ],
    indirect=["database_url"],
)
@pytest.mark.usefixtures("either_coordinator")
def test_many_at_once_count_each_update_once(
    operator: Operator, enroll: Enroll, tmp_path: Path, n_agents: int, n_campaigns: int
) -> None:
    stop = threading.Event()
    workers = [
        Worker(enroll(f"agent-{number}"), adapter_bytes(tmp_path, number + 1.0), adapter_bytes(tmp_path), stop)
        for number in range(n_agents)
    ]
    leavers = [enroll(f"leaver-{number}") for number in range(3)]
    spare = list(leavers)

    def leave(agent: ScriptedAgent) -> None:
        """Take tasks without finishing any, until revoked."""
        while (reply := agent.ask(0)).status_code in (201, 204):
            pass
        assert reply.status_code == 403, reply.text

    def watch() -> None:
        """Read everything, pause and resume, enrol and revoke, continuously."""
        while not stop.is_set():
            for campaign_id in ids:
                for path in ("", "/tasks", "/metrics", "/events", "/adapters"):
                    assert operator.http.get(f"/v1/campaigns/{campaign_id}{path}").status_code == 200
                for move in ("pause", "resume"):
                    assert operator.campaign(campaign_id, move).status_code in (200, 409)
            if spare:
                assert operator.http.post(f"/v1/agents/{spare.pop().name}/revoke").status_code == 200
            stop.wait(0.2)

    body = campaign_body(rounds=N_ROUNDS, evaluation={"every": 1}, selection={"minimum": n_agents})
    ids = [operator.post("/v1/campaigns", body)["id"] for _ in range(n_campaigns)]
    with ThreadPoolExecutor(n_agents + len(leavers) + 1) as pool:
        running = [pool.submit(worker.run) for worker in workers] + [pool.submit(watch)]
        running += [pool.submit(leave, agent) for agent in leavers]
        try:
            for campaign_id in ids:
                operator.wait_for(campaign_id, "completed", timeout_s=180)
            operator.wait_until(lambda: spare, lambda found: not found)
        finally:
            stop.set()
        for each in running:
            each.result()
    digests = set()
    for campaign_id in ids:
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
        digests.add(tuple(row["blob"]["sha256"] for row in adapters))
        for row in adapters[1:]:
            names = [share["agent_name"] for share in row["contributions"]]
            assert names == [worker.agent.name for worker in workers]
        tokens = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="tokens")
        assert len(tokens) == n_agents * N_ROUNDS
        events = operator.items(f"/v1/campaigns/{campaign_id}/events")
        assert [event["number"] for event in events] == list(range(1, len(events) + 1))
        done = Counter(event["data"].get("kind") for event in events if event["type"] == "task-done")
        assert done["train"] == n_agents * N_ROUNDS
    assert len(digests) == 1  # the sums do not depend on the order of arrival
    statuses = sum((worker.statuses for worker in workers), Counter())
    assert set(statuses) <= {200, 201, 204, 409}, statuses


@pytest.mark.parametrize("database_url", [POSTGRES], indirect=True)
@pytest.mark.parametrize("statement", [1, 2, 3])
def test_shared_bytes_survive_a_release_concurrent_with_a_commit(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, statement: int
) -> None:
    """Two agents' updates are equal. While the first one's bytes are released, the second one's result is committed:
    after the first, second or third statement of the release."""
    ada, bob, delta = enroll("ada"), enroll("bob"), adapter_bytes(tmp_path, 1.0)
    begin_campaign(operator, tmp_path, [ada, bob])
    ada.train(delta)
    sha256 = bob.upload(bob.lease("train"), "delta", delta)
    services = either_coordinator.services
    keeps = update(BlobUseRow).where(BlobUseRow.sha256 == sha256)
    releases, seen = ContextVar("releases", default=False), 0

    async def bob_counts() -> None:
        database = Database(services.database.address)
        async with database.write("test") as session:
            await session.execute(delete(UploadRow).where(UploadRow.sha256 == sha256))
            await session.execute(keeps.values(stored=True))
        await database.close()

    def after_statement(*_: object) -> None:
        nonlocal seen
        seen += releases.get()
        if releases.get() and seen == statement:
            between = threading.Thread(target=asyncio.run, args=(bob_counts(),))
            between.start()
            between.join()

    async def release() -> None:
        async with services.database.write("test") as session:
            await session.execute(keeps.values(stored=False))
        releases.set(True)
        await release_blobs(services.storage, [(BlobKind.DELTA, sha256)])
        if seen < statement:
            await bob_counts()

    event.listen(services.database.engine.sync_engine, "after_cursor_execute", after_statement)
    either_coordinator.run(release())
    assert stored_bytes(either_coordinator, sha256) == delta
