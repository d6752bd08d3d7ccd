"""Measures rounds without training in Fedloom, Flower and NVFlare: the same bytes, one machine, processes of their own.

    python benchmarks/peers.py [--mb 0 25 100] [--agents 2 8] [--rounds 5] [--json FILE]

Prints the median seconds of a round: FedAvg over 448 float32 tensors of random numbers, which agents send back; 0 MB is
a kilobyte in two tensors. The first round is a warm-up and is not measured. The others are installed into .cache/peers,
in the versions below, and run with their defaults, in a network that has nothing but loopback. Linux only.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rows import Ratio, Row, add_option, write

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "benchmarks" / "peers"
PINNED = {"flwr": "1.42.0", "nvflare": "2.9.0"}
"""The newest versions that were on the package index on 2026-11-27."""
TENSORS = 448
TIMEOUT_S = 3600
"""Longest time of one run, in seconds; then all of its processes are killed."""
# a network without the way out, and an end to every process when the first one ends
ALONE = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
WITH_LOOPBACK = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


@dataclass(frozen=True)
class Payload:
    """What a round moves: bytes of the model and of each update, in tensors, with agents; and how many rounds."""

    n_bytes: int
    n_tensors: int
    agents: int
    rounds: int

    def __str__(self) -> str:
        size = f"{self.n_bytes / 1e6:g} MB in {self.n_tensors} tensors" if self.n_bytes > 1000 else "1 KB"
        return f"round of {size}, {self.agents} agents"


def installed(package: str) -> Path:
    """The Python of a package's own environment, which is made at the first call."""
    folder = ROOT / ".cache" / "peers" / f"{package}-{PINNED[package]}"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{package}=={PINNED[package]}"], check=True)
        (folder / "installed").touch()
    return folder / "bin" / "python"


def run_alone(python: Path, script: Path, *words: object, **environment: str) -> None:
    """Run a script of another framework until it ends; with it end all processes that it started."""
    argv = [*ALONE, *WITH_LOOPBACK, str(python), str(script), *map(str, words)]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile() as log:  # not a pipe: processes that they leave behind would keep it open
        done = subprocess.run(
            argv,
            cwd=script.parent,
            env={**os.environ, "PATH": path, **environment},
            stdout=log,
            stderr=log,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            log.seek(0)
            sys.exit(f"{script.name} failed:\n{log.read().decode(errors='replace')[-4000:]}")


def between(times: Path, rounds: int) -> float:
    """The median of the last *rounds* differences between the lines of a file, in seconds."""
    moments = [float(line) for line in times.read_text().split()]
    seconds = [after - before for before, after in itertools.pairwise(moments)]
    return statistics.median(seconds[-rounds:])


def flower(payload: Payload, *, evaluation: float) -> float:
    """Seconds of a round of Flower. evaluation: the share of agents that evaluate after each round."""
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times"
        size = (payload.n_bytes, payload.n_tensors, payload.agents, payload.rounds + 1)
        run_alone(installed("flwr"), SCRIPTS / "run_flower.py", *size, times, evaluation)
        return between(times, payload.rounds)


def nvflare(payload: Payload) -> float:
    """Seconds of a round of NVFlare."""
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times"
        # from the first site's receipt of a model to its receipt of the next one: one more than there are rounds
        size = (payload.n_bytes, payload.n_tensors, payload.agents, payload.rounds + 2)
        places = {"HOME": folder, "NVFLARE_POC_WORKSPACE": f"{folder}/poc"}
        run_alone(installed("nvflare"), SCRIPTS / "nvflare_job" / "job.py", *size, times, **places)
        return between(times, payload.rounds)


def fedloom(payload: Payload) -> float:
    """Seconds of a round of Fedloom, by rounds.py."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        megabytes = payload.n_bytes / 1e6 if payload.n_bytes > 1000 else 0
        size = ["--mb", str(megabytes), "--tensors", str(payload.n_tensors), "--agents", str(payload.agents)]
        argv = [sys.executable, str(SCRIPTS.parent / "rounds.py"), *size, "--rounds", str(payload.rounds)]
        subprocess.run([*argv, "--json", str(rows)], check=True, stdout=subprocess.DEVNULL)
        round_s: float = json.loads(rows.read_text())[0]["value"]
        return round_s


SYSTEMS: dict[str, Callable[[Payload], float]] = {
    "Fedloom": fedloom,
    f"Flower {PINNED['flwr']}": lambda payload: flower(payload, evaluation=1.0),
    f"Flower {PINNED['flwr']} without evaluation": lambda payload: flower(payload, evaluation=0.0),
    f"NVFlare {PINNED['nvflare']}": nvflare,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, nargs="+", default=[0, 25, 100])
    parser.add_argument("--agents", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--rounds", type=int, default=5)
    add_option(parser)
    given = parser.parse_args()
    rows = []
    for megabytes, agents in itertools.product(given.mb, given.agents):
        n_bytes, n_tensors = (int(megabytes * 1e6), TENSORS) if megabytes else (1000, 2)
        payload = Payload(n_bytes, n_tensors, agents, given.rounds)
        ours = None
        for name, measure in SYSTEMS.items():
            seconds = measure(payload)
            ours = ours or seconds
            print(f"{payload!s:48}  {name:34}  {seconds:8.2f} s  {seconds / ours:6.1f} x", flush=True)
            ratio = Ratio(seconds / ours, "Fedloom") if name != "Fedloom" else None
            rows.append(Row(str(payload), seconds, "s", ratio, conditions=name))
    write(given.json, rows)


if __name__ == "__main__":
    main()
