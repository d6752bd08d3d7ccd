"""The example trainer, installed as a plug-in, against Fedloom's own: one update, to rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.configuration.settings import ComputeSettings
from agent.orders.job_files import CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE
from agent.train import stack
from shared.adapters.files import slot_name, write_adapter
from shared.campaign.spec import BaseSection, CpuDtype
from shared.wire.tasks.leases import Phase
from tests.train.conftest import DEEP, Child, Lab, read
from tests.train.kinds.test_training import NO_DROPOUT
from tests.train.trainers.conftest import with_trainer

pytestmark = pytest.mark.train

OWN = ComputeSettings(device="cpu", threads=1)


def slots_of(lab: Lab, adapter: Path, slot: str, seed: int) -> Path:
    """A file with random numbers in a slot of the algorithm."""
    generator = np.random.default_rng(seed)
    path = lab.folder / f"{slot}-{seed}.safetensors"
    values = {name: generator.normal(0, 0.02, each.shape).astype(np.float32) for name, each in read(adapter).items()}
    write_adapter(path, {slot_name(slot, name): each for name, each in values.items()})
    return path


def both(lab: Lab, adapter: Path, job: dict[str, Any], name: str = "loop", **work: Any) -> list[tuple[Any, Path]]:
    """The results of both trainers, and their folders."""
    named = with_trainer(name)
    works = [lab.work(lab.train_job(adapter, **job), adapter=adapter, compute=each, **work) for each in (OWN, named)]
    return [(lab.run(each), each.folder) for each in works]


def assert_equal_files(folders: list[Path], *files: str, tolerance: float = 2e-5) -> None:
    for file in files:
        own, theirs = (read(folder / file) for folder in folders)
        assert own.keys() == theirs.keys()
        for name, values in own.items():
            # the latter is a rounding of weights of 0.5; AdamW divides small gradients by themselves
            atol = tolerance * np.abs(values).max() + 1e-7
            np.testing.assert_allclose(theirs[name], values, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.01, "warmup_steps": 1},
        pytest.param({"optimizer": "adamw", "max_grad_norm": None, "batch_size": 6}, marks=DEEP),
        pytest.param({"optimizer": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.1}, marks=DEEP),
    ],
    ids=["sgd", "adamw", "clipped"],
)
@pytest.mark.usefixtures("installed")
def test_it_gives_the_update_of_fedlooms_own_trainer(lab: Lab, training: dict[str, Any]) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    job = {"lora": NO_DROPOUT, "algorithm": "scaffold", "steps": 4, "committed_update": "0" * 64} | training
    state = {"broadcast": slots_of(lab, adapter, "c", 1), "client_state": slots_of(lab, adapter, "c_k", 2)}
    (own, own_folder), (theirs, folder) = both(lab, adapter, job, micro_batch=2, **state)
    files = (DELTA_FILE, EXTRAS_FILE, CLIENT_STATE_FILE)
    assert_equal_files([own_folder, folder], *files, tolerance=2e-4 if training.get("optimizer") == "adamw" else 2e-5)
    for name in ("train_loss_first", "train_loss_last", "steps", "tokens"):
        assert theirs.metrics[name] == pytest.approx(own.metrics[name], abs=1e-5), name
    assert "; trainer loop (fedloom-example-trainers 0.1); torch" in theirs.trained_on
    assert "trainer" not in own.trained_on


@pytest.mark.usefixtures("installed")
def test_it_evaluates_as_fedlooms_own_trainer(lab: Lab) -> None:
    adapter = lab.adapter_0()
    works = [lab.work(lab.evaluate_job(adapter), adapter=adapter, compute=each) for each in (OWN, with_trainer("loop"))]
    own, theirs = (lab.run(work).metrics for work in works)
    assert theirs == pytest.approx(own, abs=1e-5)


@pytest.mark.usefixtures("installed")
def test_its_comparison_with_fedlooms_own_is_made_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def phases(compute: ComputeSettings) -> list[Any]:
        work = lab.work(lab.prepare_job(max_length=88), compute=compute)
        lab.run(work)
        return [report.phase for report in lab.reports]

    assert Phase.CHECKING_MODEL in phases(with_trainer("loop"))
    assert Phase.CHECKING_MODEL not in phases(with_trainer("loop"))
    monkeypatch.setattr(stack.find("loop"), "_identity", "loop (fedloom-example-trainers 0.2)")
    assert Phase.CHECKING_MODEL in phases(with_trainer("loop"))


@pytest.mark.usefixtures("installed")
def test_a_patched_trl_trains_preferences_and_takes_up_checkpoints(lab: Lab) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    job = {"lora": NO_DROPOUT, "training_kind": "dpo", "kind_params": {"beta": 0.3}}
    (own, own_folder), (theirs, folder) = both(lab, adapter, job, "patched")
    assert_equal_files([own_folder, folder], DELTA_FILE, tolerance=2e-4)  # by AdamW
    assert theirs.metrics["reward_margin"] == pytest.approx(own.metrics["reward_margin"], abs=1e-5)
    assert stack.find("patched").resumes


@pytest.mark.usefixtures("installed")
def test_a_child_imports_it_first_and_trains_with_it(lab: Lab, start_child: Callable[..., Child], site: Path) -> None:
    """As an agent runs it: a real child, which starts another one for Fedloom's own results."""
    child = start_child(spawned=True, PYTHONPATH=f"{site}:.")
    result = child.result(lab.work(lab.prepare_job(), compute=with_trainer("loop")))
    assert result.n_train > 0
    assert "log-probabilities differ by up to" in child.log.read_text()


@pytest.mark.deep
@pytest.mark.parametrize(
    ("name", "dtype", "quantization"),
    [("loop", "bfloat16", None), ("patched", "float32", "int8"), ("patched", "bfloat16", "nf4")],
)
@pytest.mark.usefixtures("installed")
def test_rounding_of_other_precisions_is_no_fault(lab: Lab, name: str, dtype: CpuDtype, quantization: Any) -> None:
    job = lab.prepare_job(base=BaseSection(model="tiny/llama", quantization=quantization, cpu_dtype=dtype))
    result = lab.run(lab.work(job, compute=with_trainer(name)))
    assert result.n_train > 0
