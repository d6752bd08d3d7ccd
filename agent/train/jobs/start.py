"""Checks adapter 0, which somebody else has built, before anything is computed from it."""

from pathlib import Path

import numpy as np

from agent.errors import TaskFailed
from agent.orders.job import LocalJob
from agent.orders.jobs import EvaluateJob, TrainJob
from shared.adapters.files import AdapterError, AdapterFile
from shared.adapters.initial import initial_sha256, initial_tensors
from shared.digest import sha256_file
from shared.wire.tasks.leases import FailureKind


def check_start(work: LocalJob, job: TrainJob | EvaluateJob) -> None:
    """Check each file of a job that is said to be adapter 0: the one to train from in round 1, the one to evaluate with
    number 0, and a reference in every round.

    Raises TaskFailed if it is not the campaign's.
    """
    number = job.round - 1 if isinstance(job, TrainJob) else job.round
    paths = [work.adapter if number == 0 else None, work.reference]
    for path in dict.fromkeys(paths):  # often the same file
        if path is not None:
            check_adapter_zero(path, job.training.seed, job.start_sha256)


def check_adapter_zero(path: Path, seed: int, start_sha256: str | None) -> None:
    """Raise TaskFailed unless a file is a campaign's adapter 0.

    The names and shapes are the file's own: ``load_adapter`` compares them with the base model's.

    Args:
        path: the file.
        seed: the campaign's, from which adapter 0 is drawn.
        start_sha256: the digest of adapter 0 if the campaign starts from another campaign's adapter; else None.
    """
    actual = sha256_file(path)
    if start_sha256 is not None:
        if actual != start_sha256:
            raise _refusal("that the campaign starts from", f"start_sha256 is {start_sha256}", actual)
        return
    try:
        with AdapterFile(path) as file:
            if actual != initial_sha256(file.contract, seed):
                raise _refusal(f"that seed {seed} gives", _difference(file, seed), actual)
    except AdapterError as error:
        raise _refusal(f"that seed {seed} gives", str(error), actual) from error


def _difference(file: AdapterFile, seed: int) -> str:
    """What of a file is not as in adapter 0 of this seed."""
    for name, expected in initial_tensors(file.contract, seed):
        if file.tensors[name].dtype != "F32":
            return f"{name} has the dtype {file.tensors[name].dtype}, not F32"
        if not np.array_equal(file.read(name).view(np.uint32), expected.view(np.uint32)):
            return f"{name} has other values"
    return "its values are right, but its header is not in the canonical form"


def _refusal(which: str, why: str, actual: str) -> TaskFailed:
    message = (
        f"adapter 0 is not the one {which} ({why}; its SHA-256 is {actual}), so nothing was computed from it: "
        "the operator can create the campaign anew"
    )
    return TaskFailed(FailureKind.CONTRACT_MISMATCH, message)
