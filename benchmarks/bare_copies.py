"""The minimal work of a round: the same bytes, streamed, hashed, stored and added.

Each of K processes receives the global adapter over a loopback socket, hashes and stores it, hashes its own delta and
sends it back. The main process hashes and stores each delta (fsync), adds the K deltas to the adapter in float64,
tensor by tensor, and hashes and stores the sum. It uses no HTTP, no database and no checks.
"""

import hashlib
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from shared.durable import atomic_write

_PIECE = 1 << 20


def bare_copies(n_bytes: int, n_tensors: int, n_agents: int, rounds: int) -> float:
    """Measure the median seconds of a round. n_bytes: size of the adapter and of each delta."""
    n_values = max(n_bytes // 4, n_tensors)
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        folder = Path(name)
        adapter = folder / "adapter"
        noise = np.random.default_rng(0)
        noise.standard_normal(n_values, dtype=np.float32).tofile(adapter)
        spawn = multiprocessing.get_context("spawn")
        port = server.getsockname()[1]
        agents = [spawn.Process(target=_agent, args=(port, folder / f"agent-{k}", n_values)) for k in range(n_agents)]
        for agent in agents:
            agent.start()
        lines = [server.accept()[0] for _ in agents]
        deltas = [folder / f"delta-{k}" for k in range(n_agents)]
        seconds = []
        with ThreadPoolExecutor(n_agents) as pool:
            for _ in range(rounds):
                began = time.perf_counter()
                list(pool.map(_exchange, lines, [adapter] * n_agents, deltas))
                _add(adapter, deltas, n_tensors)
                seconds.append(time.perf_counter() - began)
        for line in lines:
            line.close()
        for agent in agents:
            agent.join()
    return float(np.median(seconds))


def _exchange(line: socket.socket, adapter: Path, delta: Path) -> None:
    with adapter.open("rb") as file:
        line.sendfile(file)
    _receive(line, delta, adapter.stat().st_size, sync=True)


def _agent(port: int, folder: Path, n_values: int) -> None:
    folder.mkdir()
    delta = folder / "delta"
    np.random.default_rng(os.getpid()).standard_normal(n_values, dtype=np.float32).tofile(delta)
    with socket.create_connection(("127.0.0.1", port)) as line:
        while _receive(line, folder / "adapter", 4 * n_values, sync=False):
            with delta.open("rb") as file:
                hashlib.file_digest(file, "sha256")
                file.seek(0)
                line.sendfile(file)


def _receive(line: socket.socket, path: Path, n_bytes: int, *, sync: bool) -> bool:
    """Hash and store *n_bytes*. Returns False if the other side closed the connection."""
    digest, piece, left = hashlib.sha256(), memoryview(bytearray(_PIECE)), n_bytes
    with path.open("wb") as file:
        while left:
            n = line.recv_into(piece, min(left, _PIECE))
            if not n:
                return False
            digest.update(piece[:n])
            file.write(piece[:n])
            left -= n
        if sync:
            file.flush()
            os.fsync(file.fileno())
    return True


def _add(adapter: Path, deltas: list[Path], n_tensors: int) -> None:
    """x ← x + Σ Δ_k / K, tensor by tensor in float64."""
    sources = [np.memmap(path, dtype=np.float32, mode="r") for path in (adapter, *deltas)]
    digest = hashlib.sha256()
    with atomic_write(adapter) as file:
        for part in zip(*(np.array_split(source, n_tensors) for source in sources), strict=True):
            total = part[0].astype(np.float64)
            for delta in part[1:]:
                total += np.multiply(delta, 1 / len(deltas), dtype=np.float64)
            values = total.astype(np.float32)
            digest.update(values.data)
            file.write(values.data)


if __name__ == "__main__":
    megabytes, tensors, agents = (int(word) for word in sys.argv[1:4])
    print(f"{bare_copies(megabytes * 1_000_000, tensors, agents, 5):.3f} s per round")
