"""The minimal work of a round: a bare server (``bare_server.py``) streams, hashes, stores and adds the same bytes.

Each of K processes fetches the global adapter over HTTP, hashes and stores it, hashes its own delta and sends it. The
server hashes and stores each delta, synced, adds the K deltas to the adapter in float64, tensor by tensor, and hashes
and stores the sum. It has no database, no protocol and no checks; the agents have no ledger.
"""

import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import httpx
import numpy as np
from bare_server import serve

_PIECE = 1 << 18


@dataclass(frozen=True)
class Bare:
    """Median seconds of a round, and CPU seconds of all processes per round."""

    round_s: float
    cpu_s: float


def bare_rounds(n_bytes: int, n_tensors: int, n_agents: int, rounds: int) -> Bare:
    """Measure rounds. n_bytes: size of the adapter and of each delta."""
    n_values = max(n_bytes // 4, n_tensors)
    with tempfile.TemporaryDirectory() as name:
        folder, stored = Path(name), Path(name) / "stored"
        stored.mkdir()
        np.random.default_rng(0).standard_normal(n_values, dtype=np.float32).tofile(stored / "adapter")
        spawn = multiprocessing.get_context("spawn")
        lines, agents = [], []
        with serve(stored, 20000 + os.getpid() % 20000) as url, httpx.Client(base_url=url, timeout=600) as server:
            for number in range(n_agents):
                line, far_end = spawn.Pipe()
                lines.append(line)
                agents.append(spawn.Process(target=_agent, args=(far_end, url, folder, number, n_values)))
                agents[-1].start()
            _round(server, lines, n_tensors)  # as in rounds.py, the first does not count
            began = _cpu_s(server, lines)
            seconds = [_round(server, lines, n_tensors) for _ in range(rounds)]
            cpu_s = (_cpu_s(server, lines) - began) / rounds
            for line, agent in zip(lines, agents, strict=True):
                line.send("end")
                agent.join()
    return Bare(float(np.median(seconds)), cpu_s)


def _cpu_s(server: httpx.Client, lines: list[Connection]) -> float:
    """CPU seconds of all processes so far."""
    for line in lines:
        line.send("cpu")
    return float(server.get("/cpu").text) + sum(line.recv() for line in lines)


def _round(server: httpx.Client, lines: list[Connection], n_tensors: int) -> float:
    """Seconds of one round."""
    began = time.perf_counter()
    for line in lines:
        line.send("round")
    for line in lines:
        line.recv()
    server.post("/add", params={"agents": len(lines), "tensors": n_tensors}).raise_for_status()
    return time.perf_counter() - began


def _agent(line: Connection, url: str, folder: Path, number: int, n_values: int) -> None:
    adapter, delta = folder / f"adapter-{number}", folder / f"delta-{number}"
    np.random.default_rng(number).standard_normal(n_values, dtype=np.float32).tofile(delta)
    upload = f"/v1/leases/d{number}/uploads?n_bytes={4 * n_values}"
    with httpx.Client(base_url=url, timeout=600) as server:
        while (word := line.recv()) != "end":
            if word == "cpu":
                line.send(time.process_time())
                continue
            digest = hashlib.sha256()
            with server.stream("GET", "/v1/blobs/adapter") as reply, adapter.open("wb") as file:
                for piece in reply.iter_raw():
                    digest.update(piece)
                    file.write(piece)
            with delta.open("rb") as file:
                hashlib.file_digest(file, "sha256")
                file.seek(0)
                server.post(upload, content=_pieces(file)).raise_for_status()
            line.send("done")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


if __name__ == "__main__":
    megabytes, tensors, agents = (int(word) for word in sys.argv[1:4])
    bare = bare_rounds(megabytes * 1_000_000, tensors, agents, 5)
    print(f"{bare.round_s:.3f} s per round, {bare.cpu_s:.3f} s of CPU")
