"""Measures what requests without a valid key cost: bytes back, seconds, and what others notice of them.

    python benchmarks/edge.py [--against CHECKOUT] [--seconds 5] [--stuck]

A real coordinator in a process of its own gets requests of 1 MiB without a key, one at a time and over four
connections, while another process asks `/healthz` all the time: its median and maximum stand beside those without load,
from the same run. ``--stuck`` opens 300 half-sent headers, 100 silent connections and 150 bodies short of one byte, and
shows how many are still open after 75 s, and the memory. ``--against`` measures another checkout first. Linux only.
"""

import argparse
import multiprocessing
import os
import re
import selectors
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rounds import process, wait_for

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
STUCK_S = 75
Address = tuple[str, int]


def post(path: str, body: bytes, key: str = "") -> bytes:
    """A whole request, ready to send."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, "", ""]).encode() + body


UNKNOWN_KEYS = b"{" + b",".join(b'"%x":0' % number for number in range(111_847)) + b"}"  # 1 MiB
ARRAYS = b"[" + b"[]," * ((MIB - 4) // 3) + b"[]]"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n"


def exchange(connection: socket.socket, request: bytes) -> tuple[int, int]:
    """Send a request. Returns the reply's status and size in bytes."""
    with suppress(OSError):  # refused before the end of the body: the reply is there
        connection.sendall(request)
    reply = b""
    while b"\r\n\r\n" not in reply:
        piece = connection.recv(MIB)
        if not piece:
            raise ConnectionError
        reply += piece
    head, _, body = reply.partition(b"\r\n\r\n")
    announced = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    size = int(announced[1]) if announced else 0
    n_bytes = len(body)
    while n_bytes < size:
        piece = connection.recv(MIB)
        if not piece:
            break
        n_bytes += len(piece)
    return int(head.split(None, 2)[1]), len(head) + 4 + n_bytes


def probe(address: Address, until: float, waits: "multiprocessing.Queue[list[float]]") -> None:
    """Ask for the health fifty times a second. Puts the seconds that each took."""
    seconds = []
    with socket.create_connection(address) as connection:
        while time.monotonic() < until:
            began = time.monotonic()
            exchange(connection, HEALTH)
            seconds.append(time.monotonic() - began)
            time.sleep(0.02)
    waits.put(seconds)


def flood(address: Address, until: float, request: bytes) -> None:
    """Send the same request again and again, each over a new connection."""
    while time.monotonic() < until:
        try:
            with socket.create_connection(address, timeout=60) as connection:
                exchange(connection, request)
        except OSError:
            time.sleep(0.01)


@dataclass(frozen=True)
class Health:
    """Seconds of replies to `/healthz`."""

    median: float
    longest: float


def health_under(address: Address, seconds: float, request: bytes | None, connections: int) -> Health:
    """Measure the health while some connections repeat a request."""
    waits: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
    until = time.monotonic() + seconds
    started = [multiprocessing.Process(target=probe, args=(address, until, waits))]
    if request is not None:
        started += [multiprocessing.Process(target=flood, args=(address, until, request)) for _ in range(connections)]
    for each in started:
        each.start()
    measured = waits.get(timeout=seconds + 120)
    for each in started:
        each.join()
    return Health(statistics.median(measured), max(measured))


@contextmanager
def coordinator(checkout: Path) -> Iterator[tuple[Address, str, int]]:
    """Run a checkout's coordinator. Yields its address, an operator's key and its process id."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "coordinator.log"
        with socket.socket() as probed:
            probed.bind(("127.0.0.1", 0))
            port = probed.getsockname()[1]
        argv = ["-m", "fedloom", "coordinator", "serve", "--port", str(port), "--data-dir", str(Path(name) / "data")]
        with process(argv, checkout, checkout, log) as serving:
            key = wait_for(lambda: find_key(Path(name)), "the operator's key")
            wait_for(lambda: _listens(("127.0.0.1", port)), "the coordinator")
            with socket.create_connection(("127.0.0.1", port)) as connection:
                exchange(connection, post("/v1/tokens", b"{}", key))  # the first request builds the routes
            yield ("127.0.0.1", port), key, serving.pid


def find_key(folder: Path) -> str | None:
    """The first operator key: in the log, or in a file of the data folder."""
    for path in (folder / "coordinator.log", *folder.glob("data/*key*")):
        found = re.search(r"flo_[\w-]+", path.read_text(errors="replace"))
        if found:
            return found[0]
    return None


def _listens(address: Address) -> bool:
    try:
        socket.create_connection(address).close()
    except OSError:
        return False
    return True


def measure(checkout: Path, seconds: float) -> None:
    """Print a line for each kind of request."""
    print(f"{'request':42} status   bytes back  seconds   /healthz: median   longest")
    with coordinator(checkout) as (address, key, _):
        quiet = health_under(address, seconds, None, 0)
        print(f"{'nothing else':42}{'':37}{quiet.median * 1e3:8.1f} ms {quiet.longest * 1e3:7.1f} ms")
        for name, request in (
            ("enrolment, 111,847 unknown keys", post("/v1/enrollments", UNKNOWN_KEYS)),
            ("tokens without a key, 349,524 arrays", post("/v1/tokens", ARRAYS)),
            ("campaigns with a key, 349,524 arrays", post("/v1/campaigns", ARRAYS, key)),
            ("campaigns with a key, 111,847 unknown keys", post("/v1/campaigns", UNKNOWN_KEYS, key)),
        ):
            with socket.create_connection(address) as connection:
                began = time.monotonic()
                status, n_bytes = exchange(connection, request)
                took_s = time.monotonic() - began
            for connections in (1, 4):
                loaded = health_under(address, seconds, request, connections)
                shown = f"{status:6} {n_bytes:12,} {took_s:8.3f}" if connections == 1 else f"{'':28}"
                label = name if connections == 1 else "    over four connections"
                times = f"{loaded.median * 1e3:8.1f} ms {loaded.longest * 1e3:7.1f} ms"
                print(f"{label:42} {shown}        {times}   x {loaded.median / quiet.median:.1f}")


def memory_mb(pid: int) -> float:
    """A process's own memory."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous: +(\d+)", rollup, re.MULTILINE)[1]) / 1024  # type: ignore[index]


def measure_stuck(checkout: Path) -> None:
    """Print how many of 550 connections that make no progress are open after a while."""
    header = b"POST /v1/enrollments HTTP/1.1\r\nHost: bench\r\nContent-Ty"
    body = post("/v1/enrollments", b" " * (MIB if checkout != ROOT else 4000))[:-1]
    with coordinator(checkout) as (address, _, pid), selectors.DefaultSelector() as selector:
        before_mb, peak_mb, began = memory_mb(pid), 0.0, time.monotonic()
        connections = []
        for sent in [header] * 300 + [b""] * 100 + [body] * 150:
            connection = socket.create_connection(address)
            connection.sendall(sent)
            connections.append(connection)
            selector.register(connection, selectors.EVENT_READ)
        last_closed_s = 0.0
        while selector.get_map() and time.monotonic() - began < STUCK_S:
            peak_mb = max(peak_mb, memory_mb(pid))
            for ready, _ in selector.select(0.5):
                connection = ready.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    is_open = bool(connection.recv(65536))
                except OSError:
                    is_open = False
                if not is_open:
                    selector.unregister(connection)
                    last_closed_s = time.monotonic() - began
        n_open = len(selector.get_map())
        for connection in connections:
            connection.close()
        memory = f"memory {before_mb:.0f} MB, at most {peak_mb:.0f} MB, afterwards {memory_mb(pid):.0f} MB"
        print(
            f"stuck: {n_open} of 550 open after {STUCK_S} s; the last was closed after {last_closed_s:.0f} s; {memory}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="Another checkout of Fedloom, measured first.")
    parser.add_argument("--seconds", type=float, default=5, help="Seconds of each measurement.")
    parser.add_argument("--stuck", action="store_true", help="Measure connections that make no progress too.")
    given = parser.parse_args()
    for checkout in ([given.against.resolve()] if given.against else []) + [ROOT]:
        print(f"{checkout}, {os.cpu_count()} cores")
        measure(checkout, given.seconds)
        if given.stuck:
            measure_stuck(checkout)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
