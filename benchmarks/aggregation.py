"""Measures the aggregation of updates in the page cache against numpy's in-place addition of the same bytes.

    python benchmarks/aggregation.py [--mb 100] [--tensors 448] [--rank 8] [--updates 4,16,64] [--threads 1,2]
                                     [--algorithms all] [--repeat 5] [--gap] [--json FILE]

The reference is ``x += d`` in float32, one memory-mapped file after the other, in one thread, of the same files that
the aggregation reads: the updates with their extras, the global adapter and the algorithm's state. The aggregation sums
in float64, checks that all results are finite, and writes adapter, state and broadcast into new files. Both are
measured in turn; the ratio is that of the medians of bytes read per second, and in brackets per second of CPU time of
all threads, which other work on the machine disturbs less. ``--gap`` measures the factor gap too and prints its share
of the time. At the end: the process's peak of anonymous memory. Linux only.
"""

import argparse
import itertools
import math
import mmap
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rows import Ratio, Row, add_option, at_least, write
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from coordinator.engine.aggregation.aggregate import aggregate  # noqa: E402
from coordinator.engine.aggregation.files import ClientUpdate  # noqa: E402
from shared import algorithms  # noqa: E402
from shared.adapters.files import AdapterWriter, Contract, TensorSpec  # noqa: E402
from shared.algorithms import RoundFacts  # noqa: E402
from shared.campaign.spec import LoraSection  # noqa: E402

ALGORITHMS = ("fedavg", "fedprox", "scaffold", "fedavgm", "fedadagrad", "fedyogi", "fedadam")


class Memory(threading.Thread):
    """Samples the process's anonymous memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)
            time.sleep(0.02)


@dataclass
class Files:
    """The global adapter and the updates of a benchmark in a folder, written once."""

    folder: Path
    contract: Contract

    @classmethod
    def of(cls, folder: Path, n_bytes: float, n_tensors: int, rank: int) -> "Files":
        """Factors A and B of square modules, *n_bytes* in total."""
        width = max(rank, round(n_bytes / 4 / n_tensors / rank))
        shapes = {}
        for module in range(math.ceil(n_tensors / 2)):
            shapes[f"base_model.model.layers.{module}.q.lora_A.weight"] = (rank, width)
            shapes[f"base_model.model.layers.{module}.q.lora_B.weight"] = (width, rank)
        return cls(folder, Contract.of({name: TensorSpec("F32", shape) for name, shape in shapes.items()}))

    def path(self, name: str, slot: str | None = None) -> Path:
        """A file of random values, in the page cache."""
        path = self.folder / name
        if not path.exists():
            noise = np.random.default_rng(list(name.encode()))
            contract = self.contract.in_slots([slot]) if slot else self.contract
            with AdapterWriter(path, contract) as writer:
                for tensor, spec in contract.tensors.items():
                    writer.write(tensor, noise.standard_normal(spec.shape, dtype=np.float32) * np.float32(0.01))
        return path


def add_in_place(total: np.ndarray, paths: Sequence[Path]) -> None:
    """The reference: total += update, for each file."""
    for path in paths:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        values = np.frombuffer(mapped, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # the files' headers are numbers too
            np.add(total[: values.size], values, out=total[: values.size])


Seconds = tuple[float, float]
"""By the clock, and of CPU time."""


def seconds(run: Callable[[], object]) -> Seconds:
    began, began_cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began, time.process_time() - began_cpu


def medians(times: Sequence[Seconds]) -> Seconds:
    by_clock, of_cpu = zip(*times, strict=True)
    return statistics.median(by_clock), statistics.median(of_cpu)


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    files: Files
    algorithm: str
    n_updates: int
    repeat: int

    def measure(self, n_threads: Sequence[int], *, with_gap: bool) -> list[Row]:
        """Print the ratio for each number of threads, and return it as rows."""
        algorithm = algorithms.find(self.algorithm)
        updates = [self._update(k, extras=algorithm.client.extras) for k in range(self.n_updates)]
        state = self._round(updates, None, self._empty("state"), 1)
        of_clients = (path for each in updates for path in (each.delta, each.extras))
        paths = [path for path in (*of_clients, self.files.path("adapter"), state) if path is not None]
        total = np.zeros(max(path.stat().st_size for path in paths) // 4, dtype=np.float32)
        options = [(threads, False) for threads in n_threads] + ([(1, True)] if with_gap else [])
        spent: dict[tuple[int, bool] | None, list[Seconds]] = {option: [] for option in (None, *options)}
        for _ in range(self.repeat):
            spent[None].append(seconds(lambda: add_in_place(total, paths)))
            for option in options:
                out = self._empty("out")
                run = lambda option=option, out=out: self._round(updates, state, out, *option)  # noqa: E731
                spent[option].append(seconds(run))
        found = {option: medians(times) for option, times in spent.items()}
        (added, added_cpu), n_bytes = found[None], sum(path.stat().st_size for path in paths)
        line = f"{self.algorithm:10}  {self.n_updates:7}  {n_bytes / added / 1e9:4.1f} GB/s"
        for threads in n_threads:
            took, took_cpu = found[threads, False]
            line += f"  {added / took:4.0%} ({added_cpu / took_cpu:4.0%})"
        if with_gap:
            line += f"  {1 - found[1, False][1] / found[1, True][1]:9.0%}"
        print(line, flush=True)
        rows = []
        for threads in n_threads:
            took, _ = found[threads, False]
            what = f"{self.algorithm}, {self.n_updates} updates, {threads} thread{'s' if threads > 1 else ''}"
            ratio = Ratio(added / took, "an addition in place")
            goal = at_least(0.25 if threads == 1 else 0.4, "ratio")
            rows.append(Row(what, n_bytes / took / 1e9, "GB/s", ratio, goal))
        return rows

    def _empty(self, name: str) -> Path:
        folder = self.files.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _update(self, number: int, extras: Sequence[str]) -> ClientUpdate:
        weight = (number + 1) / (self.n_updates * (self.n_updates + 1) / 2)
        files = self.files
        return ClientUpdate(
            number,
            weight,
            weight,
            files.path(f"delta-{number}"),
            files.path(f"extras-{number}", extras[0]) if extras else None,
        )

    def _round(
        self,
        updates: Sequence[ClientUpdate],
        state: Path | None,
        out: Path,
        n_threads: int,
        with_gap: bool = False,
    ) -> Path | None:
        """Aggregate into an empty folder. Returns the algorithm's state."""
        algorithm = algorithms.find(self.algorithm)
        return aggregate(
            algorithm,
            algorithm.params(),
            self.files.path("adapter"),
            state,
            updates,
            out,
            facts=RoundFacts(number=2, seed=0, scale=2.0, first=state is None),
            lora=LoraSection(rank=8),
            measures_gap=with_gap,
            n_threads=n_threads,
        ).state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=100, help="Megabytes of the adapter and of an update.")
    parser.add_argument("--tensors", type=int, default=448)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--updates", default="4,16,64", help="Numbers of updates, separated by commas.")
    parser.add_argument("--threads", default="1,2", help="Numbers of threads, separated by commas.")
    parser.add_argument("--algorithms", default="all", help="Names, separated by commas.")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--gap", action="store_true", help="Measure the factor gap too.")
    add_option(parser)
    given = parser.parse_args()
    chosen = ALGORITHMS if given.algorithms == "all" else given.algorithms.split(",")
    updates, threads = ([int(word) for word in text.split(",")] for text in (given.updates, given.threads))
    memory = Memory()
    memory.start()
    print(f"{given.mb:g} MB in {given.tensors} tensors, rank {given.rank}; share of the in-place addition's throughput")
    heads = "".join(f"  {n:2} thread{'s' if n > 1 else ' '} " for n in threads) + ("  gap share" if given.gap else "")
    print(f"algorithm   updates   in place{heads}")
    with tempfile.TemporaryDirectory() as name, threadpool_limits(limits=1, user_api="blas"):
        files = Files.of(Path(name), given.mb * 1e6, given.tensors, given.rank)
        rows = [
            row
            for algorithm, n_updates in itertools.product(chosen, updates)
            for row in Case(files, algorithm, n_updates, given.repeat).measure(threads, with_gap=given.gap)
        ]
    write(given.json, rows)
    print(f"anonymous memory at its peak, the reference's sum included: {memory.peak / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
