"""The child as its parent sees it: a process that reads and writes lines of JSON."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch

from agent.child.supervisor import Supervisor
from agent.configuration.settings import ComputeSettings
from agent.orders.job import Done, LocalJob
from agent.orders.job_files import DELTA_FILE, RESULT_FILE
from agent.orders.order import replies_to
from agent.orders.protocol import OUT_OF_MEMORY_EXIT, Failed, Message, OutOfMemory
from agent.train.process import memory
from agent.train.process.environment import GUARDS, choose_gpu
from agent.train.process.serving import serve
from shared.campaign.spec import DataSection, LoraSection
from shared.digest import sha256_file
from shared.wire.tasks.leases import FailureKind, Phase
from tests.train.conftest import LORA, Lab
from tests.train.odd_orders import Failing

pytestmark = pytest.mark.train

NOISY = """
from agent.train.__main__ import main
from tests.train.odd_orders import NoisyJob

main((NoisyJob,))
"""

FAILING = """
from agent.train.__main__ import main
from tests.train.odd_orders import Failing

main((Failing,))
"""


@pytest.mark.deep
def test_a_warm_child_gives_what_a_cold_one_gives_bit_for_bit(lab: Lab, start_child: Any) -> None:
    """Prepare, init, train and evaluate in one noisy process; then repeat round 2 in a cold process."""
    warm = start_child("-c", NOISY)
    prepared, reports = warm.send(lab.work(lab.prepare_job()))
    assert isinstance(prepared, Done)
    assert prepared.result.fingerprint == lab.fingerprint
    assert Phase.LOADING_MODEL in [report.progress.phase for report in reports]
    init = lab.work(lab.init_job())
    warm.result(init)
    adapter = init.folder / "adapter.safetensors"
    other = LoraSection(rank=2, alpha=4, dropout=0.5, target_modules=["q_proj", "down_proj"])
    other_init = lab.work(lab.init_job(lora=other, seed=9))
    warm.result(other_init)
    other_adapter = other_init.folder / "adapter.safetensors"

    answer, reports = warm.send(lab.work(lab.train_job(adapter, round=1), adapter=adapter))
    assert isinstance(answer, Done)
    phases = [report.progress.phase for report in reports]
    assert Phase.LOADING_MODEL not in phases, "the model is loaded once"
    assert phases[-1] == Phase.TRAINING
    warm.result(lab.work(lab.evaluate_job(adapter), adapter=adapter))
    job = lab.train_job(other_adapter, lora=other, data=DataSection(name="d", template="vicuna"), max_length=200)
    warm.result(lab.work(job, adapter=other_adapter))
    second = lab.work(lab.train_job(adapter, round=2), adapter=adapter)
    warm_result = warm.result(second)
    warm_loss = warm.result(lab.work(lab.evaluate_job(adapter), adapter=adapter))
    assert warm.close() == 0
    log = warm.log.read_text()
    assert log.count("base model loaded") == 1
    assert log.count("noise of a library") == log.count("noise of a program") == 8

    cold = start_child(spawned=True)
    again = lab.work(lab.train_job(adapter, round=2), adapter=adapter)
    cold_result = cold.result(again)
    assert cold_result.delta == warm_result.delta == sha256_file(second.folder / DELTA_FILE)
    assert cold_result.metrics["train_loss_mean"] == warm_result.metrics["train_loss_mean"]
    assert cold.result(lab.work(lab.evaluate_job(adapter), adapter=adapter)) == warm_loss
    assert json.loads((again.folder / RESULT_FILE).read_text())["result"]["delta"] == cold_result.delta

    failed, _ = cold.send(lab.work(lab.prepare_job(), data=None))
    assert isinstance(failed, Failed)
    assert failed.failure.kind == FailureKind.DATA
    cold.process.stdin.write(b'{"job": "SECRET"}\n')
    cold.process.stdin.flush()
    refusal = replies_to(LocalJob).validate_json(cold.process.stdout.readline())
    assert isinstance(refusal, Failed)
    assert "SECRET" not in refusal.failure.message
    cold.result(lab.work(lab.prepare_job()))  # the child continues
    cold.process.stdout.close()  # as if the parent had died: no process reads the answer
    cold.process.stdin.write(lab.work(lab.prepare_job()).model_dump_json().encode() + b"\n")
    cold.process.stdin.flush()
    assert cold.process.wait(30) == 0


@pytest.mark.deep
def test_sft_and_dpo_do_not_affect_each_other_in_a_warm_child(lab: Lab, start_child: Any) -> None:
    """SFT, DPO, SFT in one process; then each in its own process. The adapter has dropout, which DPO switches off."""
    adapter = lab.adapter_0()
    assert LORA.dropout > 0

    def works() -> list[Any]:
        jobs = [{"round": 1}, {"round": 1, "training_kind": "dpo"}, {"round": 2}]
        return [lab.work(lab.train_job(adapter, **changes), adapter=adapter) for changes in jobs]

    warm = start_child()
    warm_results = [warm.result(work) for work in works()]
    assert warm.log.read_text().count("base model loaded") == 1
    for work, same in zip(works(), warm_results, strict=True):
        cold = start_child()
        result = cold.result(work)
        assert result.delta == same.delta
        assert result.metrics["train_loss_mean"] == same.metrics["train_loss_mean"]


def test_agents_spawn_this_child() -> None:
    """Other tests replace the command by one that forks the child."""
    assert Supervisor()._argv == (sys.executable, "-m", "agent.train")


def test_the_end_of_input_ends_an_idle_child_before_it_imports_anything(start_child: Any) -> None:
    child = start_child(spawned=True)
    assert child.close() == 0
    assert child.log.read_text() == ""


def test_telemetry_is_off_and_kernels_are_not_fetched() -> None:
    assert {name: os.environ[name] for name in GUARDS} == GUARDS
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
    from transformers.integrations import hub_kernels

    assert not hub_kernels._kernels_enabled
    assert importlib.util.find_spec("kernels") is None, "with this package, bitsandbytes would fetch kernels"


def failing(error: str, text: str) -> Failing:
    return Failing(compute=ComputeSettings(device="cpu", threads=1), error=error, text=text)


def answers(error: str, text: str) -> tuple[int, list[Message]]:
    sent: list[Message] = []
    return serve([failing(error, text).model_dump_json().encode()] * 2, sent.append, (Failing,)), sent


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("OutOfMemoryError", "CUDA out of memory."),
        ("MemoryError", ""),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_out_of_memory_is_answered_with_the_facts_and_ends_the_child(error: str, text: str) -> None:
    status, sent = answers(error, text)
    assert status == OUT_OF_MEMORY_EXIT
    assert len(sent) == 2
    last = sent[-1]
    assert isinstance(last, OutOfMemory)
    assert last.longest_row_tokens == 123
    assert last.peak_bytes > 50 << 20


def test_torchs_own_cpu_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert memory.is_exhausted(caught.value)
    assert not memory.is_exhausted(RuntimeError("shapes do not match"))


def test_other_errors_are_answered_without_their_text_and_the_child_lives_on() -> None:
    status, sent = answers("ZeroDivisionError", "a patient's name")
    assert status == 0
    failures = [message.failure for message in sent if isinstance(message, Failed)]
    assert [failure.kind for failure in failures] == [FailureKind.CRASH] * 2
    assert failures[0].message == "ZeroDivisionError in the training process; see the agent's log"
    _, sent = answers("TaskFailed", "line 3 is wrong")
    assert isinstance(sent[-1], Failed)
    assert sent[-1].failure.kind == FailureKind.DATA


@pytest.mark.parametrize(
    ("device", "before", "after"),
    [
        ("auto", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,6", "6"),
        ("cuda", "GPU-ab", "GPU-ab"),
        ("cuda:3", "4,6", ""),
        ("auto", "", ""),
        ("cpu", None, None),
    ],
)
def test_one_gpu_is_visible(
    device: str, before: str | None, after: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    else:
        monkeypatch.setattr(os, "environ", dict(os.environ))
    choose_gpu(device)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == after


def test_a_child_that_runs_out_of_memory_exits_with_the_agreed_status(start_child: Any) -> None:
    child = start_child("-c", FAILING)
    answer, _ = child.send(failing("MemoryError", ""))
    assert isinstance(answer, OutOfMemory)
    assert child.process.wait(30) == OUT_OF_MEMORY_EXIT


def test_results_are_written_last_and_whole(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    replace = Path.replace

    def watch(self: Path, target: Any) -> Any:
        if Path(target).name == RESULT_FILE:
            seen.append({path.name for path in self.parent.iterdir() if not path.name.startswith(".")})
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    adapter = lab.adapter_0()
    lab.run(lab.work(lab.train_job(adapter, steps=1), adapter=adapter))
    assert {DELTA_FILE} in seen
