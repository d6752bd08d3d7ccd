"""Measures a round without its training: a real coordinator, agents in separate processes, a child that does no work.

    python benchmarks/rounds.py [--mb 25] [--tensors 448] [--rank 8] [--agents 2] [--rounds 5] [--database-url URL]
                                [--against CHECKOUT] [--repeat 1] [--json FILE]

Prints the median seconds per round, the CPU time of all processes per round and of the coordinator per round and agent,
and its peak anonymous and mapped memory. Beside it stand the seconds of a bare server and its agents with the same
bytes (``bare_rounds.py``), which run in turns with it. ``--mb 0`` is an adapter of one kilobyte. ``--against`` runs
another checkout alternately with this one and prints the ratio of the medians. On PostgreSQL each campaign gets a new
database. The first round is a warm-up and is not measured. Linux only.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from bare_rounds import Bare, bare_rounds
from rows import Ratio, Row, add_option, at_most, write

ROOT = Path(__file__).resolve().parents[1]
AGENT = """
import json, sys
from pathlib import Path
from agent import main
try:
    from agent.configuration.open_policy import with_open_policy
except ImportError:  # another checkout
    from agent.open_policy import with_open_policy
home = Path(sys.argv[1])
main.enroll(home, sys.argv[2], sys.argv[3], home.name)
(home / "agent.toml").write_text(with_open_policy('[data.notes]\\npath = "notes.jsonl"\\n'))
main.run(home, json.loads(sys.argv[4]))
"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """One run: seconds per round, CPU seconds of all per round, the coordinator's per round and agent, peak memory in
    bytes."""

    round_s: float
    all_cpu_s: float
    cpu_s: float
    anonymous: int
    mapped: int


def shapes(n_bytes: int, n_tensors: int, rank: int) -> list[tuple[str, tuple[int, int]]]:
    """Names and shapes of factors A and B of square modules, *n_bytes* in total."""
    width = max(rank, round(n_bytes / 4 / n_tensors / rank))
    tensors: list[tuple[str, tuple[int, int]]] = []
    for module in range(math.ceil(n_tensors / 2)):
        tensors.append((f"base_model.model.layers.{module}.q.lora_A.weight", (rank, width)))
        tensors.append((f"base_model.model.layers.{module}.q.lora_B.weight", (width, rank)))
    return tensors


@contextmanager
def process(
    argv: list[str], checkout: Path, cwd: Path, log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python process of a checkout until the block ends."""
    env = {**os.environ, "PYTHONPATH": str(checkout), **environment}
    with log.open("wb") as file:
        started = subprocess.Popen([sys.executable, *argv], cwd=cwd, env=env, stdout=file, stderr=file)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def with_children(pid: int) -> list[int]:
    """A process and those that it started, which still run."""
    direct = [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    return [pid, *(deeper for child in direct for deeper in with_children(child))]


class Memory(threading.Thread):
    """Samples a process's anonymous and mapped memory until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._rollup = Path(f"/proc/{pid}/smaps_rollup")
        self.anonymous = self.mapped = 0

    def run(self) -> None:
        while True:
            try:
                lines = self._rollup.read_text().splitlines()
            except OSError:
                return
            size = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
            self.anonymous = max(self.anonymous, size.get("Anonymous", 0))
            self.mapped = max(self.mapped, size.get("Rss", 0) - size.get("Anonymous", 0))
            time.sleep(0.05)


def wait_for(read: Any, what: str) -> Any:
    """Poll *read* until it returns a true value. Returns that value."""
    until = time.monotonic() + 120
    while not (value := read()):
        if time.monotonic() > until:
            sys.exit(f"timed out waiting for {what}")
        time.sleep(0.05)
    return value


def new_database(url: str) -> str:
    """Create an empty database on the PostgreSQL server of a URL. Returns its URL."""
    import asyncpg

    async def create(name: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    name = f"bench_{time.time_ns()}"
    asyncio.run(create(name))
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


def measure(checkout: Path, given: argparse.Namespace) -> Measured:
    """Run a campaign with the code of a checkout."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        bench = folder / "bench.json"
        bench.write_text(json.dumps({"tensors": shapes(given.n_bytes, given.tensors, given.rank)}))
        port = 20000 + os.getpid() % 20000
        url, log = f"http://127.0.0.1:{port}", folder / "coordinator.log"
        argv = ["-m", "fedloom", "coordinator", "serve", "--port", str(port), "--data-dir", str(folder / "data")]
        if given.database_url:
            argv += ["--database-url", new_database(given.database_url)]
        coordinator = stack.enter_context(process(argv, checkout, checkout, log))
        key = wait_for(lambda: operators_key(folder / "data", log), "the operator's key")
        http = stack.enter_context(httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=600))
        wait_for(lambda: answers(http), "the coordinator")
        # the checkout's own, which speaks its protocol
        child = json.dumps([sys.executable, str(checkout / "benchmarks" / "costless_child.py")])
        agents = []
        for number in range(given.agents):
            home = folder / f"agent-{number}"
            token = http.post("/v1/tokens", json={}).json()["token"]
            argv = ["-c", AGENT, str(home), url, token, child]
            agent_log = folder / f"{home.name}.log"
            agents.append(stack.enter_context(process(argv, checkout, folder, agent_log, FEDLOOM_BENCH=str(bench))))
            (wait_for(lambda home=home: home if home.is_dir() else None, "an agent") / "notes.jsonl").touch()
        memory = Memory(coordinator.pid)
        memory.start()
        return _campaign(http, given, coordinator.pid, [agent.pid for agent in agents], memory)


def operators_key(data: Path, log: Path) -> str | None:
    """The first key of a coordinator; older versions printed it."""
    file = data / "operator.key"
    printed = re.search(r"flo_[\w-]+", file.read_text() if file.exists() else log.read_text())
    return printed[0] if printed else None


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def _campaign(http: httpx.Client, given: argparse.Namespace, pid: int, agents: list[int], memory: Memory) -> Measured:
    body = {
        "name": "bench",
        "base": {"model": "none"},
        "lora": {"rank": given.rank},
        "training": {"steps": 1, "learning_rate": 0.1},
        "data": {"name": "notes"},
        "rounds": given.rounds + 1,
        "selection": {"minimum": given.agents},
        "evaluation": {"every": 0},
        "retention": {"adapters": 1, "server_state": 1},
    }
    path = f"/v1/campaigns/{http.post('/v1/campaigns', json=body).raise_for_status().json()['id']}"
    closed: list[datetime] = []
    cpu, of_agents = [0.0], [0.0]
    with http.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as events:
        for line in events.iter_lines():
            if not line.startswith("data:"):
                continue
            event = json.loads(line[5:])
            if event["type"] == "round-closed":
                closed.append(datetime.fromisoformat(event["at"]))
                cpu.append(cpu_seconds(pid))
                of_agents.append(sum(cpu_seconds(each) for agent in agents for each in with_children(agent)))
            elif event["type"] in ("task-failed", "campaign-moved") and "paused" in line:
                sys.exit(f"the campaign stopped: {line}")
    seconds = [(after - before).total_seconds() for before, after in itertools.pairwise(closed)]
    used, by_agents = ((each[-1] - each[1]) / given.rounds for each in (cpu, of_agents))
    return Measured(statistics.median(seconds), used + by_agents, used / given.agents, memory.anonymous, memory.mapped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mb", type=float, default=25, help="Megabytes of the adapter and of an update; 0: a kilobyte."
    )
    parser.add_argument("--tensors", type=int, default=448)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--agents", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database-url", help="postgresql://… of an empty database; by default SQLite.")
    parser.add_argument("--against", type=Path, help="Another checkout of Fedloom to compare with.")
    parser.add_argument("--repeat", type=int, default=1, help="Number of campaigns per checkout, alternating.")
    add_option(parser)
    given = parser.parse_args()
    given.n_bytes = int(given.mb * 1e6) or 1000
    given.tensors = given.tensors if given.mb else 2
    checkouts = {"this": ROOT} | ({"other": given.against.resolve()} if given.against else {})
    runs: dict[str, list[Measured]] = {name: [] for name in checkouts}
    bare: list[Bare] = []
    for _ in range(given.repeat):
        for name, checkout in checkouts.items():
            runs[name].append(measure(checkout, given))
        bare.append(bare_rounds(given.n_bytes, given.tensors, given.agents, given.rounds))
    show(given, runs, bare)
    write(given.json, rows(given, runs["this"], statistics.median(run.round_s for run in bare)))


def rows(given: argparse.Namespace, runs: list[Measured], bare_s: float) -> list[Row]:
    """The rows of this checkout: seconds per round, the coordinator's CPU and anonymous memory."""
    size = f"{given.mb:g} MB in {given.tensors} tensors" if given.mb else "1 KB"
    what = f"{size}, {given.agents} agents"
    database = "PostgreSQL" if given.database_url else "SQLite"
    round_s = statistics.median(run.round_s for run in runs)
    cpu_ms = 1000 * statistics.median(run.cpu_s for run in runs)
    return [
        Row(
            f"round of {what}",
            round_s,
            "s",
            Ratio(round_s / bare_s, "a bare server"),
            at_most(1.7, "ratio") if given.mb else at_most(0.06) if given.agents == 2 else None,
            database,
        ),
        Row(
            f"the coordinator's CPU an agent and round, {what}",
            cpu_ms,
            "ms",
            goal=at_most(12) if not given.mb and given.agents >= 20 else None,
        ),
        Row(f"its anonymous memory, {what}", max(run.anonymous for run in runs) / 1e6, "MB"),
    ]


def show(given: argparse.Namespace, by_checkout: dict[str, list[Measured]], bare: list[Bare]) -> None:
    """Print a line per checkout, and the ratio if there are two."""
    print(f"{given.agents} agents, {given.n_bytes / 1e6:g} MB in {given.tensors} tensors, rank {given.rank}")
    bare_s, bare_cpu_s = (statistics.median(getattr(run, what) for run in bare) for what in ("round_s", "cpu_s"))
    print("code    s per round  x bare  CPU s of all  x bare  coordinator's per agent  anonymous   mapped")
    for name, runs in by_checkout.items():
        round_s = statistics.median(run.round_s for run in runs)
        cpu_ms = 1000 * statistics.median(run.cpu_s for run in runs)
        anonymous, mapped = (max(getattr(run, what) for run in runs) / 1e6 for what in ("anonymous", "mapped"))
        all_s = statistics.median(run.all_cpu_s for run in runs)
        times = f"{name:6}  {round_s:11.3f}  {round_s / bare_s:6.2f}  {all_s:12.3f}  {all_s / bare_cpu_s:6.2f}"
        times = f"{times}  {cpu_ms:20.0f} ms"
        print(f"{times}  {anonymous:6.0f} MB  {mapped:4.0f} MB")
    print(f"bare    {bare_s:11.3f}          {bare_cpu_s:12.3f}")
    if given.against:
        ours, theirs = (statistics.median(run.round_s for run in runs) for runs in by_checkout.values())
        print(f"this checkout is {theirs / ours:.2f} times as fast as the other")


if __name__ == "__main__":
    main()
