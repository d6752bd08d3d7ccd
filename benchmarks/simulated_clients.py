"""Measures the cost of a further simulated client: memory of the process tree, disk, and time.

    python benchmarks/simulated_clients.py [--clients 10 100]

Runs `fedloom simulate` with the quickstart's model and samples the memory of the simulation and its child (PSS, so that
shared pages count once). The reference is the same simulation with the fewest clients: the memory ratio should stay
near 1, since all clients share one model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "examples" / "quickstart"
sys.path.insert(0, str(QUICKSTART))

from make_data import make_data  # noqa: E402

CAMPAIGN = {
    "name": "clients",
    "base": {"model": "fedloom/quickstart"},
    "training": {"steps": 2, "batch_size": 4, "max_length": 64, "learning_rate": 0.002},
    "data": {"name": "records"},
    "evaluation": {"every": 0},
    "rounds": 2,
}


def pss_bytes(root: int) -> int:
    """Proportional set size of a process and its children. Linux only."""
    total = 0
    for pid in (root, *children(root)):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # the process has just ended
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def children(pid: int) -> list[int]:
    descendants = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        direct = [int(word) for word in path.read_text().split()]
        descendants += direct + [deeper for child in direct for deeper in children(child)]
    return descendants


def measure(clients: int, folder: Path) -> dict[str, float]:
    """Run one simulation. Returns its peak memory, the disk space of its clients, and its seconds."""
    make_data(folder / "data", seed=1)
    (folder / "campaign.json").write_text(json.dumps(CAMPAIGN))
    (folder / "agent.toml").write_text(
        f'[data.records]\npath = "data/records.jsonl"\n[models]\n"fedloom/quickstart" = "{QUICKSTART / "model"}"\n'
        '[compute]\ndevice = "cpu"\nthreads = 1\n'
    )
    argv = [sys.executable, "-m", "fedloom", "simulate", str(folder / "campaign.json"), "--clients", str(clients)]
    peak, started = 0, time.perf_counter()
    with subprocess.Popen([*argv, "--out", str(folder / "out")], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, pss_bytes(process.pid))
            time.sleep(0.1)
    if process.returncode != 0:
        sys.exit(f"the simulation of {clients} clients failed")
    seconds = time.perf_counter() - started
    disk = sum(path.stat().st_size for path in (folder / "out" / "clients").rglob("*") if path.is_file())
    return {"peak_bytes": peak, "disk_bytes": disk, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100])
    measured = {}
    for clients in sorted(parser.parse_args().clients):
        with tempfile.TemporaryDirectory() as folder:
            measured[clients] = measure(clients, Path(folder))
    fewest, least = next(iter(measured.items()))
    print("clients  peak memory  ratio  disk per client  whole run")
    for clients, values in measured.items():
        print(
            f"{clients:7}  {values['peak_bytes'] / 1e6:8.0f} MB  {values['peak_bytes'] / least['peak_bytes']:5.2f}"
            f"  {values['disk_bytes'] / clients / 1e3:12.0f} kB  {values['seconds']:7.0f} s"
        )
    for clients, values in measured.items():
        if clients != fewest:
            further = (values["peak_bytes"] - least["peak_bytes"]) / (clients - fewest)
            print(f"memory of a further client, from {fewest} to {clients}: {further / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
