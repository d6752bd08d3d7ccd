"""A tiny model, its tokenizers, jobs for it, and two ways to run them: in this process and in a real child."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.configuration.settings import ComputeSettings
from agent.data.source import DataSource
from agent.orders.job import LocalJob
from agent.orders.job_files import ADAPTER_FILE
from agent.orders.order import AnswerT, Order, replies_to
from agent.orders.protocol import Failed, Report

os.environ["HF_HUB_OFFLINE"] = "1"

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from agent.orders.jobs import EvaluateJob, InitJob, PrepareJob, TrainJob  # noqa: E402
from agent.train.worker import Worker  # noqa: E402
from shared.adapters.files import AdapterFile, write_adapter  # noqa: E402
from shared.adapters.updates import UpdateFile  # noqa: E402
from shared.campaign.spec import BaseSection, DataSection, LoraSection  # noqa: E402
from shared.digest import sha256_file  # noqa: E402
from shared.wire.tasks.results import Fingerprint  # noqa: E402
from tests.support.forks.quick_children import SERVER, argv  # noqa: E402
from tests.support.messages import with_training  # noqa: E402
from tests.support.tiny import PAIRS, ROWS, byte_level_bpe, make_model  # noqa: E402
from tests.support.tokenizers import sentencepiece_style, wordpiece  # noqa: E402

torch.set_num_threads(1)

TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level_bpe,
    "sentencepiece": sentencepiece_style,
    "wordpiece": wordpiece,
}


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> None:
    """Freeze imported objects, as the child does: each trainer collects garbage when it starts, over all of them."""
    gc.freeze()


DEEP = pytest.mark.deep


def first_in_fast(values: Sequence[Any]) -> list[Any]:
    """Parameters of which the fast tier runs only the first."""
    return [values[0], *(pytest.param(value, marks=DEEP) for value in values[1:])]


def in_pairs(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """All pairs as parameters. The fast tier runs the fewest pairs that contain each value once."""
    n = max(len(first), len(second))
    fast = {(number % len(first), number % len(second)) for number in range(n)}
    return [
        pytest.param(left, right, marks=() if (i, j) in fast else DEEP)
        for i, left in enumerate(first)
        for j, right in enumerate(second)
    ]


@pytest.fixture(scope="session", params=first_in_fast(list(TOKENIZERS)))
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights, stored as safetensors."""
    return make_model(tmp_path_factory.mktemp("model"))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", ROWS)


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl", PAIRS)


def supervised_from(tokens: list[int], start: int) -> tuple[list[int], list[bool]]:
    """A row of tokens that is supervised from *start* to its end."""
    return tokens, [index >= start for index in range(len(tokens))]


LORA = LoraSection(rank=4, alpha=8, dropout=0.1)
TRAINING: dict[str, Any] = {"seed": 7, "steps": 3, "batch_size": 4, "max_length": 96, "learning_rate": 1e-3}
UNKNOWN = Fingerprint(weights="0" * 64, config="0" * 64, tokenizer="0" * 64, template="0" * 64)


@dataclass
class Lab:
    """Makes jobs for the tiny model and runs them in this process."""

    model: Path
    data: Path
    pairs: Path
    folder: Path
    worker: Worker
    fingerprint: Fingerprint = UNKNOWN

    def __post_init__(self) -> None:
        self._base = {
            "campaign_id": "c1",
            "campaign_name": "test",
            "created_on": date(2026, 1, 31),
            "training_kind": "sft",
            "kind_params": {},
            "base": BaseSection(model="tiny/llama"),
        }
        self._count = 0
        self._adapters: dict[tuple[str, int], Path] = {}

    def source(self, kind: str = "sft", **changes: Any) -> DataSource:
        columns = {"prompt": "instruction", "input": "input", "completion": "output"}
        path = self.pairs if kind == "dpo" else self.data
        return DataSource(**({"path": path, "held_out": 0.2} | columns | changes))

    def work(self, job: Any, *, supplied: bool = True, **changes: Any) -> LocalJob:
        """The job with everything that it needs.

        supplied: whether the campaign starts from an adapter of another one, the job's reference or else its adapter;
        if not, its adapter 0 must be the one that its seed gives.
        """
        self._count += 1
        start = changes.get("reference") or changes.get("adapter")
        if supplied and start is not None:
            job = job.model_copy(update={"start_sha256": sha256_file(Path(start))})
        defaults = {
            "folder": self.folder / f"task-{self._count}",
            "cache": self.folder / "cache",
            "model_path": self.model,
            "data": self.source(job.training_kind),
            "adapter": None,
            "broadcast": None,
            "compute": ComputeSettings(device="cpu", threads=1),
            "micro_batch": 4,
            "remote_code": False,
        }
        return LocalJob(job=job, **(defaults | changes))

    def prepare_job(self, **changes: Any) -> PrepareJob:
        fields = {
            "lora": LORA,
            "algorithm": "fedavg",
            "plain_client": False,
            "data": DataSection(name="d"),
        }
        return PrepareJob(**with_training(self._base | fields | changes, **TRAINING))

    def init_job(self, **changes: Any) -> InitJob:
        return InitJob(**(self._base | {"fingerprint": self.fingerprint, "lora": LORA, "seed": 7} | changes))

    def train_job(self, adapter: Path, **changes: Any) -> TrainJob:
        fields = {
            "fingerprint": self.fingerprint,
            "lora": LORA,
            "rank": changes.get("lora", LORA).rank,
            "data": DataSection(name="d"),
            "algorithm": "fedavg",
            "algorithm_params": {},
            "plain_client": False,
            "round": 1,
            "client_number": 0,
            "state_versions": 2,
            "adapter": {"sha256": sha256_file(adapter), "n_bytes": adapter.stat().st_size},
        }
        of_round = {name: changes.get(name, TRAINING[name]) for name in ("steps", "learning_rate")}
        return TrainJob(**with_training(self._base | fields | changes, **TRAINING), **of_round)

    def evaluate_job(self, adapter: Path, **changes: Any) -> EvaluateJob:
        fields = {
            "fingerprint": self.fingerprint,
            "lora": LORA,
            "data": DataSection(name="d"),
            "round": 1,
            "adapter": {"sha256": sha256_file(adapter), "n_bytes": adapter.stat().st_size},
        }
        return EvaluateJob(**with_training(self._base | fields | changes, **TRAINING))

    def run(self, work: LocalJob) -> Any:
        """Run the work in this process; raises what the worker raises."""
        return self.carry_out(work).result

    def carry_out(self, order: Order[AnswerT]) -> AnswerT:
        """Carry out an order in this process; raises what the worker raises. Its progress is in ``reports``."""
        self.reports: list[Any] = []
        return self.worker.carry_out(order, self.reports.append, lambda _: None)

    def adapter_0(self, lora: LoraSection = LORA, seed: int = 7) -> Path:
        """The adapter of an init job, with B drawn at random too: with B = 0, half of the gradients are zero.

        The file is made once and shared, so do not write to it.
        """
        if known := self._adapters.get((lora.model_dump_json(), seed)):
            return known
        work = self.work(self.init_job(lora=lora, seed=seed))
        self.run(work)
        generator = np.random.default_rng(seed)
        tensors = read(work.folder / ADAPTER_FILE)
        for name, values in tensors.items():
            if "lora_B" in name:
                tensors[name] = generator.normal(0, 0.05, values.shape).astype(np.float32)
        path = work.folder / "started.safetensors"
        write_adapter(path, tensors)
        self._adapters[lora.model_dump_json(), seed] = path
        return path


def read(path: Path, like: Path | None = None) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """All tensors of an adapter, or of an update as its reader gets it, copied. like: a file with the same tensors in
    float32, which name those of an update in int8."""
    contract = None
    if like is not None:
        with AdapterFile(like) as file:
            contract = file.contract
    with UpdateFile(path, like=contract) as file:
        return {name: file.read(name).copy() for name in file.tensors}


def initial_of(lab: Lab, **changes: Any) -> Path:
    """The adapter 0 of an init job."""
    work = lab.work(lab.init_job(**changes))
    assert lab.run(work).adapter == sha256_file(work.folder / ADAPTER_FILE)
    return work.folder / ADAPTER_FILE


@pytest.fixture
def new_lab(
    model_folder: Path, data_file: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Lab]:
    def make(worker: Worker | None = None) -> Lab:
        return Lab(model_folder, data_file, pairs_file, tmp_path_factory.mktemp("lab"), worker or Worker())

    return make


@pytest.fixture(scope="session")
def _shared_lab(model_folder: Path, data_file: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(model_folder, data_file, pairs_file, tmp_path_factory.mktemp("lab"), Worker())
    lab.fingerprint = lab.run(lab.work(lab.prepare_job())).fingerprint
    return lab


@pytest.fixture
def lab(_shared_lab: Lab) -> Lab:
    """A lab with a warm worker and the tiny model's fingerprint, shared by the tests."""
    return _shared_lab


@pytest.fixture
def initial(lab: Lab) -> Path:
    """The adapter 0 of seed 7, which is the seed of all jobs of the lab."""
    return initial_of(lab)


class Child:
    """A real child process, started by *command*."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            )

    def send(self, work: Order[Any]) -> tuple[Any, list[Report]]:
        """Let the child do *work*; its final answer and the reports before it."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(work.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()
        reports: list[Report] = []
        while True:
            answer = replies_to(type(work)).validate_json(self.process.stdout.readline())
            if not isinstance(answer, Report):
                return answer, reports
            reports.append(answer)

    def result(self, work: LocalJob) -> Any:
        answer, _ = self.send(work)
        assert not isinstance(answer, Failed), answer.failure
        return answer.result

    def close(self) -> int:
        """Close the child's input and wait for its exit status."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        status = self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()
        return status


@pytest.fixture
def start_child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(*command: str, spawned: bool = False, **environment: str) -> Child:
        """Start ``python COMMAND...``: forked, which is quick, or spawned, as agents do it."""
        python = list(command) or ["-m", "agent.train"]
        command_line = [sys.executable, *python] if spawned else SERVER.stand_in(*python)
        children.append(Child(command_line, environment, tmp_path / f"child-{len(children)}.log"))
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        child.close()


@pytest.fixture
def quick_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the children that this process starts with the default command."""
    monkeypatch.setattr("agent.child.supervisor.DEFAULT_ARGV", tuple(argv()))
