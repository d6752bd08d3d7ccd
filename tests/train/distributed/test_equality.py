"""Two ranks give the update of one: the same rows in each step, the mean over all of them, the client half once."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.orders.job import Done
from agent.orders.job_files import CLIENT_STATE_FILE, EXTRAS_FILE
from shared.campaign.spec import BaseSection, LoraSection
from tests.train.conftest import Child, Lab, first_in_fast, read
from tests.train.distributed.ranks import RANKS, compute, difference, work
from tests.train.kinds.test_algorithms_in_trainers import random_tensors, write_slot
from tests.train.kinds.test_training import NO_DROPOUT

pytestmark = [pytest.mark.train, pytest.mark.xdist_group("ranks")]

SGD = {"lora": NO_DROPOUT, "optimizer": "sgd", "learning_rate": 0.1, "max_grad_norm": None}
TOLERANCE = 1e-5
"""Of the largest value of the delta."""
JOBS: dict[str, dict[str, Any]] = {
    "sft": {},
    "dpo": {"training_kind": "dpo", "kind_params": {"beta": 0.3}},
    "fedprox, clipped": {"algorithm": "fedprox", "algorithm_params": {"mu": 0.3}, "max_grad_norm": 0.5},
    "a frozen A": {"lora": LoraSection(rank=4, alpha=6, freeze_a=True)},
    "warm-up and decay": {"warmup_steps": 2, "weight_decay": 0.1, "training_kind": "dpo"},
}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """One child for all trainings of this file, whose ranks stay warm."""
    child = Child([sys.executable, "-m", "agent.train"], {}, tmp_path_factory.mktemp("child") / "log")
    yield child
    child.process.kill()
    child.close()


def trained(child: Child, order: Any) -> Any:
    answer, _ = child.send(order)
    assert isinstance(answer, Done), child.log.read_text()[-2000:]
    return answer.result


@pytest.mark.parametrize("name", first_in_fast([*JOBS]))
def test_two_ranks_give_the_delta_of_one(lab: Lab, child: Child, name: str) -> None:
    job = SGD | JOBS[name]
    adapter = lab.adapter_0(job["lora"])
    one, two = work(lab, adapter, job, processes=1), work(lab, adapter, job)
    expected, result = lab.run(one), trained(child, two)
    assert difference(one.folder, two.folder) < TOLERANCE
    measured = set(expected.metrics) - {"seconds", "tokens_per_s", "peak_memory_bytes"}
    assert measured <= result.metrics.keys()
    for metric in measured:
        assert result.metrics[metric] == pytest.approx(expected.metrics[metric], rel=1e-5), metric
    assert f"1 thread, {RANKS} processes;" in result.trained_on
    assert "processes" not in expected.trained_on
    assert not [path for path in two.folder.iterdir() if path.name.startswith("trainer-")]


@pytest.mark.parametrize("kind", first_in_fast(["dpo", "sft"]))
def test_scaffolds_control_variates_are_those_of_one(lab: Lab, child: Child, kind: str) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    values = read(adapter)
    slots = {
        "broadcast": write_slot(lab.folder / "c.safetensors", "c", random_tensors(1, values)),
        "client_state": write_slot(lab.folder / "c_k.safetensors", "c_k", random_tensors(2, values)),
    }
    job = SGD | {"algorithm": "scaffold", "committed_update": "0" * 64, "training_kind": kind}
    one, two = work(lab, adapter, job, processes=1, **slots), work(lab, adapter, job, **slots)
    lab.run(one)
    trained(child, two)
    assert difference(one.folder, two.folder) < TOLERANCE
    for file in (EXTRAS_FILE, CLIENT_STATE_FILE):
        expected, actual = read(one.folder / file), read(two.folder / file)
        assert expected.keys() == actual.keys()
        for name in expected:
            np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-5)


@pytest.mark.deep
@pytest.mark.parametrize(("batch_size", "micro_batch"), [(8, 1), (8, 3), (2, 4), (6, 4)])
def test_the_micro_batch_of_the_ranks_changes_nothing(
    lab: Lab, child: Child, batch_size: int, micro_batch: int
) -> None:
    adapter, job = lab.adapter_0(NO_DROPOUT), SGD | {"batch_size": batch_size}
    one, two = work(lab, adapter, job, processes=1), work(lab, adapter, job, micro_batch=micro_batch)
    lab.run(one)
    trained(child, two)
    assert difference(one.folder, two.folder) < TOLERANCE


@pytest.mark.deep
@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("precision", ["bfloat16", "int8", "nf4"])
def test_bases_of_other_precisions_too(lab: Lab, child: Child, precision: str, kind: str) -> None:
    """The micro-batches are those of one process, so nothing is rounded otherwise but the sum of the gradients."""
    adapter, job = lab.adapter_0(NO_DROPOUT), SGD | {"training_kind": kind}
    if precision == "bfloat16":
        job |= {"base": BaseSection(model="tiny/llama", cpu_dtype=precision)}
    else:
        pytest.importorskip("bitsandbytes")
        job |= {"base": BaseSection(model="tiny/llama", quantization=precision)}
    one, two = (work(lab, adapter, job, n, compute=compute(n)) for n in (1, RANKS))
    lab.run(one)
    trained(child, two)
    assert difference(one.folder, two.folder) < TOLERANCE


@pytest.mark.deep
def test_adamw_divides_small_gradients_by_themselves_so_its_rounding_is_larger(lab: Lab, child: Child) -> None:
    adapter, job = lab.adapter_0(NO_DROPOUT), {"lora": NO_DROPOUT, "learning_rate": 1e-2}
    one, two = work(lab, adapter, job, processes=1), work(lab, adapter, job)
    lab.run(one)
    trained(child, two)
    assert difference(one.folder, two.folder) < 1e-4


def test_a_batch_that_does_not_divide_is_trained_by_fewer_ranks(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    adapter, job = lab.adapter_0(NO_DROPOUT), SGD | {"batch_size": 5}
    one = lab.run(work(lab, adapter, job, processes=1, compute=compute(1)))
    other = lab.run(work(lab, adapter, job, compute=compute(RANKS, threads=1)))
    assert other.delta == one.delta
    assert "1 of 2 processes train: the campaign's steps of 5 rows divide among no more" in caplog.text


@pytest.mark.deep
def test_ranks_draw_other_dropout_and_repeat_it(lab: Lab, child: Child) -> None:
    """A training with dropout gives the same bits again, with the same number of ranks."""
    adapter = lab.adapter_0()
    orders = [work(lab, adapter, {"learning_rate": 1e-2}, **changes) for changes in ({}, {}, {"processes": 1})]
    deltas = [trained(child, order).delta for order in orders[:2]] + [lab.run(orders[2]).delta]
    assert deltas[0] == deltas[1] != deltas[2]


@pytest.mark.deep
def test_what_is_left_of_a_group_does_not_reach_other_jobs(lab: Lab, child: Child, tmp_path: Path) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    trained(child, work(lab, adapter, SGD))
    alone = work(lab, adapter, SGD | {"batch_size": 5}, compute=compute())  # one rank of the same child
    assert trained(child, alone).metrics["steps"] == 3
    evaluated = lab.work(lab.evaluate_job(adapter, lora=NO_DROPOUT), adapter=adapter, compute=compute())
    expected = lab.run(lab.work(lab.evaluate_job(adapter, lora=NO_DROPOUT), adapter=adapter))
    assert trained(child, evaluated).metrics["held_out_loss"] == pytest.approx(expected.metrics["held_out_loss"])
