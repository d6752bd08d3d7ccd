"""The real ``fedloom evaluate`` in a process of its own, over the tiny model and adapters on it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, wait_until

pytest.importorskip("torch")

N_ROWS = 48


class Evaluation:
    """A command that runs, in a session of its own, so that all it leaves can be found."""

    def __init__(self, *arguments: object, folder: Path, prefix: tuple[str, ...] = (), **environment: str) -> None:
        self.log = folder / "log.txt"
        own = {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "fedloom", "evaluate", *map(str, arguments), "--threads", "1"],
                stdout=file,
                stderr=file,
                cwd=folder,
                env={**os.environ, **own, **environment},
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ended(self) -> int:
        """Wait for its end. Returns its exit code."""
        code = self.process.wait(120)
        assert "Traceback" not in self.said, self.said
        return code

    def interrupt(self) -> int:
        """Ctrl-C. Returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def kill(self) -> None:
        """As kill -9."""
        self.process.kill()
        self.process.wait()

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        over = lambda: f"it ended: {self.said}" if self.process.poll() is not None else None  # noqa: E731
        wait_until(condition, what, 60, over)


Start = Callable[..., Evaluation]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands in ``tmp_path``, and ends what is left of them with the test."""
    started: list[Evaluation] = []

    def begin(*arguments: object, **options: Any) -> Evaluation:
        started.append(Evaluation(*arguments, folder=tmp_path, **options))
        return started[-1]

    yield begin
    for each in started:
        each.kill()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny import make_model

    return make_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def new_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes LoRA adapters of PEFT with random weights."""
    import peft
    import torch
    import transformers

    def make(base: Path, name: str, seed: int = 0) -> Path:
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.1)
        folder = tmp_path_factory.mktemp("adapters") / name
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def adapter(base: Path, new_adapter: Callable[..., Path]) -> Path:
    return new_adapter(base, "notes")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "rows").mkdir(parents=True)
    rows = [{"prompt": f"Say {n}.", "completion": str(n)} for n in range(N_ROWS)]
    (folder / "rows" / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def replies_in(out: Path) -> list[str]:
    """The requests that have a reply, by the digests of the requests, of all models."""
    found = []
    for path in (out / "replies").glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                found.append(f"{path.stem} {json.loads(line)['request']}")
            except ValueError:
                continue
    return found


def children_of(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_bytes().rpartition(b")")[2].split()[1])
        except OSError:
            continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False
