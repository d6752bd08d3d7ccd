"""The precision of the base on a CPU: what a preparation decides, what jobs keep, what the owner's own refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.configuration.processor import multiplies_bfloat16, read_cpuinfo
from agent.configuration.settings import ComputeSettings
from agent.errors import TaskFailed
from agent.orders.job_files import CHECKPOINT_FILE, DELTA_FILE
from agent.orders.on_base.score import Completed
from agent.train.worker import Worker
from shared.campaign.spec import BaseSection, LoraSection
from shared.wire.tasks.leases import FailureKind, Phase
from tests.train.conftest import Lab, read
from tests.train.local_requests import score_request
from tests.train.test_checkpoints import STEP, compute, crash, outcome, run, training_work

pytestmark = pytest.mark.train

NO_DROPOUT = LoraSection(rank=4, alpha=8)


def section(cpu_dtype: Any, **changes: Any) -> BaseSection:
    return BaseSection(model="tiny/llama", cpu_dtype=cpu_dtype, **changes)


def on_cpu(**settings: Any) -> ComputeSettings:
    return ComputeSettings(device="cpu", threads=1, **settings)


def loaded(lab: Lab) -> str:
    """The precision of the base that the child holds now."""
    base = lab.worker.warm.models._base
    assert base is not None
    dtypes = {str(value.dtype).removeprefix("torch.") for value in base.language_model.parameters()}
    [dtype] = dtypes
    return dtype


@pytest.mark.parametrize(
    ("asked", "own", "decided"),
    [("float32", "auto", "float32"), ("bfloat16", "auto", "bfloat16"), ("auto", "float32", "float32")],
)
def test_a_preparation_answers_in_what_it_computed(lab: Lab, asked: str, own: str, decided: str) -> None:
    work = lab.work(lab.prepare_job(base=section(asked)), compute=on_cpu(dtype=own))
    assert lab.run(work).cpu_dtype == decided
    assert loaded(lab) == decided


def test_what_is_left_open_goes_by_the_flags_of_this_processor(lab: Lab) -> None:
    expected = "bfloat16" if multiplies_bfloat16(read_cpuinfo()) else "float32"
    answers = {lab.run(lab.work(lab.prepare_job(base=section("auto")))).cpu_dtype for _ in range(2)}
    assert answers == {expected}
    assert loaded(lab) == expected


@pytest.mark.parametrize(("asked", "own"), [("bfloat16", "float32"), ("float32", "bfloat16")])
@pytest.mark.parametrize("kind", ["prepare", "train", "evaluate", "init"])
def test_a_setting_that_contradicts_the_campaign_is_refused_in_words(lab: Lab, asked: str, own: Any, kind: str) -> None:
    adapter = lab.adapter_0()
    job = {
        "prepare": lambda **base: lab.prepare_job(**base),
        "init": lambda **base: lab.init_job(**base),
        "train": lambda **base: lab.train_job(adapter, **base),
        "evaluate": lambda **base: lab.evaluate_job(adapter, **base),
    }[kind](base=section(asked))
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(job, adapter=None if kind in ("prepare", "init") else adapter, compute=on_cpu(dtype=own)))
    assert caught.value.failure.kind is FailureKind.REFUSED_BY_POLICY
    assert f'in {asked} on a CPU (base.cpu_dtype), and compute.dtype = "{own}"' in caught.value.failure.message
    if kind == "prepare":
        assert all(each.phase is not Phase.TOKENIZING for each in lab.reports), "before the rows are read"


def test_float16_is_refused_on_a_cpu_whatever_the_campaign_says(lab: Lab) -> None:
    for asked in ("float32", "auto"):
        with pytest.raises(TaskFailed, match="float16, which trains on a GPU only") as caught:
            lab.run(lab.work(lab.prepare_job(base=section(asked)), compute=on_cpu(dtype="float16")))
        assert caught.value.failure.kind is FailureKind.BASE_MODEL


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_held_out_losses_are_within_one_percent_of_float32(lab: Lab, new_lab: Callable[..., Lab], kind: str) -> None:
    """After a training in each precision, evaluated in it."""
    job = {"training_kind": kind, "lora": NO_DROPOUT, "steps": 8, "learning_rate": 0.01}
    losses = {}
    for dtype in ("float32", "bfloat16"):
        other = new_lab(Worker())
        other.fingerprint = lab.fingerprint
        adapter = lab.adapter_0(NO_DROPOUT)
        base = {"base": section(dtype)}
        work = other.work(other.train_job(adapter, **job, **base), adapter=adapter, reference=None)
        result = other.run(work)
        assert ("base in bfloat16" in result.trained_on) is (dtype == "bfloat16")
        after = work.folder / "after.safetensors"
        write_sum(after, adapter, work.folder / DELTA_FILE)
        evaluation = other.evaluate_job(after, training_kind=kind, lora=NO_DROPOUT, **base)
        losses[dtype] = other.run(other.work(evaluation, adapter=after)).metrics["held_out_loss"]
        before = other.evaluate_job(adapter, training_kind=kind, lora=NO_DROPOUT, **base)
        assert losses[dtype] < other.run(other.work(before, adapter=adapter)).metrics["held_out_loss"]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01, abs=0.005)


def write_sum(path: Path, adapter: Path, delta: Path) -> None:
    from shared.adapters.files import write_adapter

    start, change = read(adapter), read(delta)
    write_adapter(path, {name: np.asarray(values + change[name], np.float32) for name, values in start.items()})


def test_a_training_in_bfloat16_resumes_from_its_checkpoint(lab: Lab) -> None:
    adapter = lab.adapter_0()
    work = training_work(lab, adapter, job={"base": section("bfloat16")}, compute=compute(2))
    crash(lab, work, STEP, 3)
    assert (work.folder / CHECKPOINT_FILE).exists()
    result, reached = run(lab, work)
    assert reached[STEP] == 2, "the two steps after the checkpoint"
    assert loaded(lab) == "bfloat16"
    whole = work.model_copy(update={"folder": work.folder.with_name("whole")})
    same, _ = run(lab, whole)
    assert outcome(result, work) == outcome(same, whole)


def test_a_checkpoint_of_another_precision_is_not_used(lab: Lab) -> None:
    adapter = lab.adapter_0()
    work = training_work(lab, adapter, compute=compute(2))
    crash(lab, work, STEP, 3)
    job = work.job.model_copy(update={"base": section("bfloat16")})
    _, reached = run(lab, work.model_copy(update={"job": job}))
    assert reached[STEP] == 4


@pytest.mark.parametrize(("asked", "dtype"), [("bfloat16", "bfloat16"), ("auto", "float32"), ("float32", "float32")])
def test_a_person_at_the_machine_asks_the_base_of_training(lab: Lab, asked: str, dtype: str) -> None:
    """Where each agent decided for itself there is no one base of training, and answers are exact."""
    rows = [Completed(prompt="q", completion="a")]
    lab.carry_out(score_request(lab, rows, base=section(asked)))
    assert loaded(lab) == dtype


@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_quantised_weights_stay_quantised_and_the_rest_is_rounded(lab: Lab, scheme: Any) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    losses = {}
    for dtype in ("float32", "bfloat16"):
        job = lab.evaluate_job(adapter, lora=NO_DROPOUT, base=section(dtype, quantization=scheme))
        losses[dtype] = lab.run(lab.work(job, adapter=adapter)).metrics["held_out_loss"]
        base = lab.worker.warm.models._base
        assert base is not None
        embeddings = base.language_model.get_input_embeddings().weight
        assert str(embeddings.dtype) == f"torch.{dtype}"
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01, abs=0.005)
