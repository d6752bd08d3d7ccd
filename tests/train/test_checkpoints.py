"""A resumed training against an uninterrupted one: the same bits, and few steps repeated."""

import logging
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

from agent.configuration.settings import ComputeSettings
from agent.orders.job import LocalJob
from agent.orders.job_files import (
    CHECKPOINT_FILE,
    CLIENT_STATE_FILE,
    DELTA_FILE,
    EXTRAS_FILE,
    RESIDUAL_FILE,
    RESULT_FILE,
)
from agent.orders.jobs import TrainJob
from agent.train.data.tokens import Samples, TokenRows
from agent.train.trainer.checkpoint import load, training_identity
from shared import crash_points
from shared.adapters.files import write_adapter
from shared.campaign.spec import BaseSection, DataSection, LoraSection, TrainingSection
from shared.digest import sha256_file
from shared.system import durable
from shared.wire.base import BlobRef
from shared.wire.tasks.leases import Phase
from shared.wire.tasks.results import TrainResult
from tests.support.tiny import ROWS
from tests.train.conftest import LORA, UNKNOWN, Lab, read, supervised_from, write_rows

pytestmark = pytest.mark.train

STEPS, EVERY = 4, 2
STEP, SAVED, WRITTEN = "child: step", "child: checkpoint written", "child: delta written"
CPU = torch.device("cpu")


class Crash(BaseException):
    """Stands for the end of the process: no code of the child catches it."""


_MEASURED = ("seconds", "tokens_per_s", "peak_memory_bytes")


def run(lab: Lab, work: LocalJob) -> tuple[TrainResult, Counter[str]]:
    """Do the work; its result, and how often each crash point was reached."""
    reached: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crash_points, "reach", lambda name: reached.update([name]))
        return lab.run(work), reached


def crash(lab: Lab, work: LocalJob, point: str, nth: int = 1) -> None:
    """Do the work until a crash point is reached for the n-th time."""
    reached: Counter[str] = Counter()

    def reach(name: str) -> None:
        reached[name] += 1
        if name == point and reached[name] == nth:
            raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crash_points, "reach", reach)
        with pytest.raises(Crash):
            lab.run(work)


@pytest.fixture(scope="module")
def adapter(_shared_lab: Lab) -> Path:
    return _shared_lab.adapter_0()


def compute(every: int) -> ComputeSettings:
    return ComputeSettings(device="cpu", threads=1, checkpoint_every=every)


def training_work(lab: Lab, adapter: Path, *, job: dict[str, Any] | None = None, **work: Any) -> LocalJob:
    """A training with dropout and two micro-batches a step."""
    train_job = lab.train_job(adapter, **({"steps": STEPS, "learning_rate": 1e-2} | (job or {})))
    return lab.work(train_job, adapter=adapter, **({"micro_batch": 2, "compute": compute(EVERY)} | work))


def outcome(result: TrainResult, work: LocalJob) -> dict[str, Any]:
    """Everything that must be equal: the files' digests, and all metrics except time and memory."""
    files = {path.name: sha256_file(path) for path in work.folder.glob("*.safetensors")}
    assert files[DELTA_FILE] == result.delta
    metrics = {name: x for name, x in result.metrics.items() if name not in _MEASURED}
    return files | metrics | {"client_state_lost": result.client_state_lost}


def uninterrupted(lab: Lab, work: LocalJob) -> dict[str, Any]:
    """The outcome of the same work, uninterrupted, in another folder."""
    same = work.model_copy(update={"folder": work.folder.with_name(f"{work.folder.name}-uninterrupted")})
    result, reached = run(lab, same)
    assert reached[STEP] == STEPS
    return outcome(result, same)


@pytest.fixture(scope="module")
def checkpoint(_shared_lab: Lab, adapter: Path) -> Path:
    """The checkpoint after step 2 of the training that ``training_work`` makes."""
    work = training_work(_shared_lab, adapter)
    crash(_shared_lab, work, STEP, 3)
    return work.folder / CHECKPOINT_FILE


def with_checkpoint(work: LocalJob, checkpoint: Path) -> LocalJob:
    work.folder.mkdir()
    shutil.copy(checkpoint, work.folder)
    return work


@pytest.fixture(scope="module")
def whole(_shared_lab: Lab, adapter: Path) -> dict[str, Any]:
    """The uninterrupted outcome of the training that ``training_work`` makes."""
    return uninterrupted(_shared_lab, training_work(_shared_lab, adapter))


# resuming

SCAFFOLD = {"algorithm": "scaffold", "committed_update": "0" * 64, "max_grad_norm": None}
CASES: dict[str, dict[str, Any]] = {
    "fedprox": {"algorithm": "fedprox", "algorithm_params": {"mu": 0.5}},  # it pulls towards the round's first weights
    "dpo": {"training_kind": "dpo"},
    "scaffold": SCAFFOLD | {"optimizer": "sgd"},
    "scaffold in int8": SCAFFOLD | {"wire": "int8"},
    "scaffold, warm-up": SCAFFOLD | {"warmup_steps": 3, "weight_decay": 0.1},
    "scaffold, dpo, frozen A": SCAFFOLD
    | {"training_kind": "dpo", "lora": LoraSection(rank=4, alpha=8, dropout=0.1, freeze_a=True)},
}


def slot_file(lab: Lab, adapter: Path, slot: str, *, only: str = "") -> Path:
    """A file with a random tensor for each tensor of the adapter whose name contains *only*."""
    generator = np.random.default_rng(len(slot))
    tensors = {
        f"{slot}/{name}": generator.normal(0, 0.02, values.shape).astype(np.float32)
        for name, values in read(adapter).items()
        if only in name
    }
    path = lab.folder / f"{slot}{only}.safetensors"
    write_adapter(path, tensors)
    return path


def residual_file(lab: Lab, adapter: Path) -> Path:
    """A file with a random residual for each tensor of SCAFFOLD's update."""
    path = lab.folder / "residual.safetensors"
    slots = [read(slot_file(lab, adapter, slot)) for slot in ("delta", "delta_c")]
    write_adapter(path, slots[0] | slots[1])
    return path


def slots(lab: Lab, adapter: Path, only: str = "") -> dict[str, Path]:
    return {
        "broadcast": slot_file(lab, adapter, "c", only=only),
        "client_state": slot_file(lab, adapter, "c_k", only=only),
    }


@pytest.mark.parametrize("job", CASES.values(), ids=CASES)
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    lab: Lab, adapter: Path, job: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Interrupted twice: between two checkpoints, and after the last step before the result is written."""
    sent = slots(lab, adapter, "lora_B" if "lora" in job else "") if job.get("algorithm") == "scaffold" else {}
    if "wire" in job:
        sent["residual"] = residual_file(lab, adapter)
    work = training_work(lab, adapter, job=job, **sent)
    same = uninterrupted(lab, work)
    assert same.keys() >= ({DELTA_FILE, EXTRAS_FILE, CLIENT_STATE_FILE} if sent else {DELTA_FILE})
    crash(lab, work, STEP, 3)
    with caplog.at_level(logging.INFO, "agent.train"):
        crash(lab, work, WRITTEN)
    assert "resuming after step 2 of 4" in caplog.text
    training = [report for report in lab.reports if report.phase == Phase.TRAINING]
    assert [(report.done, report.total) for report in (training[0], training[-1])] == [(2, STEPS), (STEPS, STEPS)]
    for path in work.folder.glob("*.safetensors"):
        path.unlink()
    result, reached = run(lab, work)
    assert outcome(result, work) == same
    assert reached == {WRITTEN: 1, "child: result written": 1}
    assert {path.name for path in work.folder.iterdir()} == {
        *(DELTA_FILE, RESULT_FILE),
        *((EXTRAS_FILE, CLIENT_STATE_FILE) if "broadcast" in sent else ()),
        *((RESIDUAL_FILE,) if "wire" in job else ()),
    }


@pytest.mark.parametrize(("point", "nth", "repeated"), [(STEP, 2, 2), (SAVED, 1, 0)])
def test_a_crash_costs_the_steps_since_the_latest_checkpoint(
    lab: Lab, adapter: Path, whole: dict[str, Any], point: str, nth: int, repeated: int
) -> None:
    work = training_work(lab, adapter)
    crash(lab, work, point, nth)
    result, reached = run(lab, work)
    assert outcome(result, work) == whole
    done = nth if point == STEP else nth * EVERY
    assert reached[STEP] == STEPS - done + repeated


def test_a_killed_child_is_resumed_by_the_next_one(
    lab: Lab, adapter: Path, whole: dict[str, Any], tmp_path: Path, start_child: Any
) -> None:
    work = training_work(lab, adapter)
    child = start_child(FEDLOOM_CRASH_AT=f"{STEP}#3", FEDLOOM_CRASH_NOTES=str(tmp_path / "notes"))
    child.process.stdin.write(work.model_dump_json().encode() + b"\n")
    child.process.stdin.flush()
    assert child.process.wait(120) == -signal.SIGKILL
    (work.folder / f".{CHECKPOINT_FILE}.1.tmp").touch()  # as left by a child that was killed while it wrote
    assert len(list(work.folder.glob("trainer-*"))) == 1
    result, reached = run(lab, work)
    assert reached[STEP] == 2
    assert outcome(result, work) == whole
    assert {path.name for path in work.folder.iterdir()} == {DELTA_FILE, RESULT_FILE}


def test_the_time_covers_all_runs(lab: Lab, adapter: Path, checkpoint: Path) -> None:
    work = with_checkpoint(training_work(lab, adapter), checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    assert content["history"]["seconds"] > 0
    content["history"]["seconds"] += 1e6
    torch.save(content, work.folder / CHECKPOINT_FILE)
    metrics = run(lab, work)[0].metrics
    assert metrics["seconds"] > 1e6
    assert metrics["tokens_per_s"] == metrics["tokens"] / metrics["seconds"]


def test_training_resumes_with_a_smaller_micro_batch(
    lab: Lab, adapter: Path, checkpoint: Path, whole: dict[str, Any]
) -> None:
    """As after memory ran out."""
    work = with_checkpoint(training_work(lab, adapter, micro_batch=1), checkpoint)
    result, reached = run(lab, work)
    assert reached[STEP] == 2
    assert result.metrics["tokens"] == whole["tokens"]


def test_no_checkpoints_where_the_owner_wants_none(lab: Lab, adapter: Path, whole: dict[str, Any]) -> None:
    work = training_work(lab, adapter, compute=compute(0))
    result, reached = run(lab, work)
    assert SAVED not in reached
    assert outcome(result, work) == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    lab: Lab, adapter: Path, whole: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, usual = training_work(lab, adapter), durable._create

    def create(path: Path, mode: int) -> IO[bytes]:
        monkeypatch.setattr(durable, "_create", usual)
        path.symlink_to("/dev/full")  # every write to it fails as on a full disk
        return path.open("wb")

    def fill_up(progress: Any) -> None:
        if progress.phase == Phase.TRAINING and progress.done == 0:
            monkeypatch.setattr(durable, "_create", create)

    result = lab.worker.carry_out(work, fill_up, print).result
    assert "no checkpoint after step 2: [Errno 28] No space left on device" in caplog.text
    assert "after step 4" not in caplog.text
    assert outcome(result, work) == whole
    assert {path.name for path in work.folder.iterdir()} == {DELTA_FILE, RESULT_FILE}


# checkpoints that are not used


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Flip one bit of a weight."""
    data = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["adapter"]
    offset = data.find(max(weights.values(), key=torch.numel).numpy().tobytes())
    assert offset > 0
    data[offset + 1002] ^= 64
    path.write_bytes(data)


def called() -> None:
    pytest.fail("loading the checkpoint called a function")


class Hostile:
    def __reduce__(self) -> Any:
        return called, ()


def make_hostile(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"optimizer": Hostile()}, path)


def make_incomplete(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["optimizer"]
    torch.save(content, path)


@pytest.mark.parametrize("spoil", [cut, empty, flip, make_hostile, make_incomplete])
def test_a_damaged_checkpoint_is_ignored(
    checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    identity = torch.load(checkpoint, weights_only=True)["identity"]
    path = Path(shutil.copy(checkpoint, tmp_path))
    loaded = load(path, identity)
    assert loaded is not None
    assert loaded.history.done == 2
    spoil(path)
    assert load(path, identity) is None
    assert "training starts over" in caplog.text


def test_training_starts_over_without_a_usable_checkpoint(
    lab: Lab, adapter: Path, checkpoint: Path, whole: dict[str, Any]
) -> None:
    work = with_checkpoint(training_work(lab, adapter), checkpoint)
    flip(work.folder / CHECKPOINT_FILE)
    result, reached = run(lab, work)
    assert reached[STEP] == STEPS
    assert outcome(result, work) == whole


def test_a_checkpoint_of_another_round_is_not_used(
    lab: Lab, adapter: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = with_checkpoint(training_work(lab, adapter, job={"round": 2}), checkpoint)
    with caplog.at_level(logging.INFO, "agent.train"):
        result, reached = run(lab, work)
    assert reached[STEP] == STEPS
    assert "the checkpoint belongs to another training" in caplog.text
    assert outcome(result, work) == uninterrupted(lab, work)


def test_a_checkpoint_from_before_the_data_was_edited_is_not_used(lab: Lab, adapter: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS)
    work = training_work(lab, adapter, data=lab.source(path=path))
    crash(lab, work, STEP, 3)
    write_rows(path, [*ROWS[:-1], ROWS[-1] | {"output": "the end"}])
    result, reached = run(lab, work)
    assert reached[STEP] == STEPS
    assert outcome(result, work) == uninterrupted(lab, work)


def test_a_checkpoint_whose_client_state_is_lost_is_not_used(lab: Lab, adapter: Path) -> None:
    work = training_work(lab, adapter, job=SCAFFOLD, **slots(lab, adapter))
    crash(lab, work, STEP, 3)
    assert work.client_state is not None
    work.client_state.unlink()
    result, reached = run(lab, work)
    assert reached[STEP] == STEPS
    assert result.client_state_lost
    assert outcome(result, work) == uninterrupted(lab, work)


OTHER: dict[str, Any] = {
    "campaign_id": "c2",
    "training_kind": "dpo",
    "base": BaseSection(model="tiny/other"),
    "fingerprint": UNKNOWN.model_copy(update={"weights": "1" * 64}),
    "created_on": date(2026, 2, 1),
    "lora": LORA.model_copy(update={"alpha": 16}),
    "rank": 3,
    "data": DataSection(name="d", template="vicuna"),
    "algorithm": "fedprox",
    "algorithm_params": {"mu": 0.1},
    "plain_client": True,
    "round": 2,
    "client_number": 1,
    "training": TrainingSection(steps=STEPS, seed=8),
    "steps": STEPS + 1,
    "wire": "int8",
    "learning_rate": 1e-4,
    "kind_params": {"beta": 0.7},
    "adapter": BlobRef(sha256="1" * 64, n_bytes=1),
    "reference": BlobRef(sha256="1" * 64, n_bytes=1),
    "broadcast": BlobRef(sha256="1" * 64, n_bytes=1),
}
IRRELEVANT: dict[str, Any] = {
    "campaign_name": "other",
    "start_sha256": "1" * 64,
    "committed_update": "1" * 64,
    "state_versions": 9,
}


def test_every_input_of_a_delta_changes_the_training_identity(lab: Lab, adapter: Path, tmp_path: Path) -> None:
    job = lab.train_job(adapter)
    assert OTHER.keys() | IRRELEVANT.keys() == TrainJob.model_fields.keys() - {"kind"}
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("a")
    b.write_text("b")

    def identity(rows: str = "r", client_state: Path | None = None, device: torch.device = CPU, **changes: Any) -> str:
        return training_identity(job.model_copy(update=changes), rows, client_state, device, torch.float32, "")

    others = [identity(**{name: value}) for name, value in OTHER.items()]
    others += [identity("s"), identity(client_state=a), identity(client_state=b), identity(device=torch.device("meta"))]
    others.append(training_identity(job, "r", None, CPU, torch.bfloat16, ""))
    others.append(training_identity(job, "r", None, CPU, torch.float32, "loop 0.1"))
    assert len({identity(), *others}) == 1 + len(others)
    assert {identity(**{name: value}) for name, value in IRRELEVANT.items()} == {identity()}


def test_the_digest_of_rows_covers_tokens_supervision_and_row_borders() -> None:
    rows = [[([1, 2, 3], 1), ([4, 5], 1)], [([1, 2, 3], 2), ([4, 5], 1)], [([1, 2], 1), ([3, 4, 5], 1)]]
    rows.append([([1, 2, 3], 1), ([4, 6], 1)])
    first, again = ([TokenRows.of([supervised_from(*row) for row in case]) for case in rows] for _ in range(2))
    assert len({token_rows.sha256 for token_rows in first}) == len(rows)
    assert first[0].sha256 == again[0].sha256
    alone, pairs = Samples(first[0], 1, np.zeros((2, 0))), Samples(first[0], 1, np.zeros((2, 1)))
    assert len({alone.sha256, pairs.sha256, Samples(first[0], 1, np.ones((2, 1))).sha256}) == 3
