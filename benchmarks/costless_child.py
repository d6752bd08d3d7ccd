"""A training child that does no work: it speaks the child's protocol and returns prepared deltas.

benchmarks/rounds.py starts it. FEDLOOM_BENCH names a JSON file whose ``tensors`` are pairs of a name and a shape.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from agent.orders.job import Done, LocalJob
from agent.orders.job_files import ADAPTER_FILE, DELTA_FILE, RESULT_FILE
from agent.orders.jobs import InitJob, PrepareJob
from shared.adapters.files import write_adapter
from shared.digest import sha256_file, sha256_hex
from shared.wire.tasks.results import Fingerprint, InitResult, PrepareResult, TrainResult

TENSORS = json.loads(Path(os.environ["FEDLOOM_BENCH"]).read_text())["tensors"]
FINGERPRINT = Fingerprint(**{part: sha256_hex(part.encode()) for part in Fingerprint.model_fields})
METRICS = {"steps": 1, "train_loss_mean": 1, "tokens": 1, "seconds": 1, "tokens_per_s": 1, "peak_memory_bytes": 0}


def draw(path: Path, seed: int, scale: float, zero: str = "nothing") -> str:
    """Write random tensors of the adapter's shapes. zero: part of the names that stay zero. Returns the digest."""
    noise = np.random.default_rng(seed)
    scales = {name: 0.0 if zero in name else scale for name, _ in TENSORS}
    tensors = {name: scales[name] * noise.standard_normal(shape, dtype=np.float32) for name, shape in TENSORS}
    write_adapter(path, tensors)
    return sha256_file(path)


def main() -> None:
    # two alternating deltas: repeating the same bytes would mean less work for the coordinator
    deltas = [Path.cwd() / f"delta-{os.getpid()}-{turn}" for turn in range(2)]
    digests: list[str] = []
    for line in sys.stdin:
        work = LocalJob.model_validate_json(line)
        if isinstance(work.job, PrepareJob):
            result = PrepareResult(fingerprint=FINGERPRINT, rank=work.job.lora.rank, n_train=10, n_held_out=0)
            digests = digests or [draw(path, seed=os.getpid() + turn, scale=1e-3) for turn, path in enumerate(deltas)]
        elif isinstance(work.job, InitJob):
            # the coordinator accepts no adapter 0 that has been trained
            result = InitResult(adapter=draw(work.folder / ADAPTER_FILE, seed=0, scale=1e-2, zero="lora_B"))
        else:
            turn = work.job.round % 2
            os.link(deltas[turn], work.folder / DELTA_FILE)
            result = TrainResult(delta=digests[turn], metrics=METRICS)
        done = Done(result=result, n_distinct=10).model_dump_json()
        (work.folder / RESULT_FILE).write_text(done)
        sys.stdout.write(done + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
