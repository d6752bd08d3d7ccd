"""Compares the speed of uploads and downloads with that of a bare server (``bare_server.py``).

    python benchmarks/transfer.py [--mb 400] [--repeat 5]

The agent's own code sends a file to a coordinator and to the bare server, and fetches an adapter from both, in turns.
Both check or compute digests, and both have the file on the disk before their last reply; beside it stands a bare
server that does not sync. Prints the medians in MB/s, and the medians of the ratios of neighbouring runs.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
from bare_server import answers, serve
from rounds import process, shapes, wait_for
from rows import Ratio, Row, add_option, at_least, write

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent.ledger.ledger import Ledger  # noqa: E402
from agent.network.api import CoordinatorApi  # noqa: E402
from agent.network.heartbeat import LeaseHeartbeat  # noqa: E402
from agent.network.transfer import AdapterCache, upload  # noqa: E402
from shared.adapters.files import write_adapter  # noqa: E402
from shared.credentials import AGENT_PREFIX, new_secret  # noqa: E402
from shared.digest import sha256_file, sha256_hex  # noqa: E402
from shared.states import BlobKind  # noqa: E402
from shared.wire.base import CHUNK_BYTES, BlobRef  # noqa: E402
from shared.wire.tasks.leases import TaskLease  # noqa: E402
from shared.wire.tasks.results import Fingerprint, InitResult, PrepareResult, Result  # noqa: E402

FINGERPRINT = Fingerprint(**{part: sha256_hex(part.encode()) for part in Fingerprint.model_fields})
TENSORS, RANK = 448, 8
INSTANCE = uuid4().hex
Work = Callable[[CoordinatorApi, LeaseHeartbeat], Awaitable[object]]


@dataclass(frozen=True)
class Coordinator:
    """A coordinator with an agent that holds a train task. adapter: what the task begins with."""

    secret: str
    lease: TaskLease
    adapter: BlobRef


async def begin(url: str, key: str, folder: Path, adapter: Path, ref: BlobRef) -> Coordinator:
    """Begin a campaign with this adapter, with one agent."""
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}) as operator:
        token = (await operator.post("/v1/tokens", json={})).json()["token"]
        campaign = {
            "name": "transfer",
            "base": {"model": "none"},
            "lora": {"rank": RANK},
            "training": {"steps": 1},
            "data": {"name": "notes"},
            "rounds": 1,
            "selection": {"minimum": 1},
            "evaluation": {"every": 0},
        }
        secret = new_secret(AGENT_PREFIX)
        api = CoordinatorApi(url, secret, ledger=Ledger(folder / "ledger"))
        await api.enroll(token, "bench", secret)
        (await operator.post("/v1/campaigns", json=campaign)).raise_for_status()

    async def end(result: Result) -> None:
        lease = await _lease(api)
        if isinstance(result, InitResult):
            await upload(api, LeaseHeartbeat(api, INSTANCE, lease), BlobKind.ADAPTER, adapter, ref.sha256)
        await api.put_result(lease, result)

    await end(PrepareResult(fingerprint=FINGERPRINT, rank=RANK, n_train=10, n_held_out=0))
    await end(InitResult(adapter=ref.sha256))
    lease = await _lease(api)
    await api.close()
    return Coordinator(secret, lease, ref)


async def _lease(api: CoordinatorApi) -> TaskLease:
    while (lease := await api.acquire(INSTANCE, 20)) is None:
        pass
    return lease


async def seconds_of(at: Coordinator, url: str, folder: Path, work: Work) -> float:
    """Seconds of an agent's work at a server, over a connection whose speed it knows."""
    api = CoordinatorApi(url, at.secret, ledger=Ledger(folder / "ledger"))
    while api.chunk_size.n_bytes < CHUNK_BYTES:
        api.chunk_size.succeeded(0.01)
    began = time.perf_counter()
    await work(api, LeaseHeartbeat(api, INSTANCE, at.lease))
    seconds = time.perf_counter() - began
    await api.close()
    return seconds


async def keep_lease(at: Coordinator, url: str, folder: Path) -> None:
    """Hold the task's lease until cancelled: the bare servers know none."""
    api = CoordinatorApi(url, at.secret, ledger=Ledger(folder / "lease"))
    try:
        await LeaseHeartbeat(api, INSTANCE, at.lease).run()
    finally:
        await api.close()


async def measure(
    at: Coordinator, urls: dict[str, str], folder: Path, repeat: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each repetition, by direction and server."""
    delta, cache = folder / "delta", folder / "cache"
    n_values = at.adapter.n_bytes // 4
    taken: dict[str, dict[str, list[float]]] = {way: {name: [] for name in urls} for way in ("upload", "download")}
    for turn in range(repeat):
        np.random.default_rng(turn).standard_normal(n_values, dtype=np.float32).tofile(delta)
        sha256 = sha256_file(delta)
        for name, url in urls.items():
            send = partial(upload, purpose=BlobKind.DELTA, path=delta, sha256=sha256)
            taken["upload"][name].append(await seconds_of(at, url, folder, send))
        for name, url in urls.items():
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir()
            fetch = partial(AdapterCache(cache, 1 << 40).fetch, ref=at.adapter)
            taken["download"][name].append(await seconds_of(at, url, folder, fetch))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=400)
    parser.add_argument("--repeat", type=int, default=5)
    add_option(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        adapter = folder / "adapter"
        noise = np.random.default_rng(0)
        zero = "lora_B"  # of an adapter that is not trained yet
        tensors = {
            name: noise.standard_normal(shape, dtype=np.float32) if zero not in name else np.zeros(shape, np.float32)
            for name, shape in shapes(int(given.mb * 1e6), TENSORS, RANK)
        }
        write_adapter(adapter, tensors)
        ref = BlobRef(sha256=sha256_file(adapter), n_bytes=adapter.stat().st_size)
        port = 20000 + os.getpid() % 20000
        data, log = folder / "data", folder / "coordinator.log"
        argv = ["-m", "fedloom", "coordinator", "serve", "--port", str(port), "--data-dir", str(data)]
        stack.enter_context(process(argv, ROOT, ROOT, log))
        key = wait_for(lambda: (data / "operator.key").exists() and (data / "operator.key").read_text(), "the key")
        urls = {"coordinator": f"http://127.0.0.1:{port}"}
        wait_for(lambda: answers(urls["coordinator"] + "/readyz"), "the coordinator")
        for offset, synced in ((1, True), (2, False)):
            bare = folder / f"bare-{offset}"
            bare.mkdir()
            os.link(adapter, bare / ref.sha256)
            url = stack.enter_context(serve(bare, port + offset, synced=synced))
            urls["bare, synced" if synced else "bare, unsynced"] = url

        async def work() -> dict[str, dict[str, list[float]]]:
            at = await begin(urls["coordinator"], key.strip(), folder, adapter, ref)
            lease = asyncio.create_task(keep_lease(at, urls["coordinator"], folder))
            taken = await measure(at, urls, folder, given.repeat)
            lease.cancel()
            return taken

        write(given.json, show(given.mb, asyncio.run(work())))


def show(megabytes: float, taken: dict[str, dict[str, list[float]]]) -> list[Row]:
    """Print a line for each direction and server. Returns the coordinator's rows."""
    rows = []
    print("direction  server            MB/s  coordinator's share of its speed")
    for way, by_server in taken.items():
        ours = by_server["coordinator"]
        for name, seconds in by_server.items():
            share = statistics.median(theirs / own for own, theirs in zip(ours, seconds, strict=True))
            speed = megabytes / statistics.median(seconds)
            print(f"{way:9}  {name:14}  {speed:6.0f}  {share:31.0%}")
            if name != "coordinator":
                own = megabytes / statistics.median(ours)
                goal = at_least(0.7 if way == "upload" else 0.8, "ratio")
                rows.append(Row(f"{way} of {megabytes:g} MB", own, "MB/s", Ratio(share, f"a {name} server"), goal))
    return rows


if __name__ == "__main__":
    main()
