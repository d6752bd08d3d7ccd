"""What an algorithm's client half does inside the trainers, against its update rule in plain numpy.

The gradients come from torch's autograd on a plain PEFT model and, for preferences, the bare base. Every computation
after the gradient is written out here. The trainers of fine-tuning and of preference optimisation share a mixin, so
the tests run for both.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from agent.errors import TaskFailed
from agent.orders.job_files import CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE
from agent.train.base.attached import AttachedAdapter
from shared import algorithms
from shared.adapters.files import write_adapter
from shared.algorithms import ClientHalf
from shared.campaign.spec import LoraSection
from shared.wire.tasks.leases import FailureKind
from tests.support.distributions import load_example
from tests.train.conftest import Lab, in_pairs, read
from tests.train.kinds.test_preferences import bare, plain_dpo_loss
from tests.train.kinds.test_training import NO_DROPOUT, batches, plain_loss, plain_model, train

pytestmark = pytest.mark.train

KINDS: list[str] = ["sft", "dpo"]
MICRO_BATCHES = [4, 1]
"""The whole batch at once, and accumulated gradients."""
BETA, MU, LR, STEPS = 0.3, 0.3, 0.1, 2

Tensors = dict[str, NDArray[np.float64]]


def job(kind: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "training_kind": kind,
        "kind_params": {"beta": BETA} if kind == "dpo" else {},
        "lora": NO_DROPOUT,
        "steps": STEPS,
        "learning_rate": LR,
        "optimizer": "sgd",
        "max_grad_norm": None,
    }
    return fields | changes


class Plain:
    """Computes the loss and the gradient of a batch at given weights."""

    def __init__(self, lab: Lab, kind: str, lora: LoraSection, start: Mapping[str, Any]) -> None:
        self.model = plain_model(lab, lora, dict(start))
        base = bare(lab)
        losses: dict[str, Callable[[Any], torch.Tensor]] = {
            "sft": lambda batch: plain_loss(self.model, batch),
            "dpo": lambda batch: plain_dpo_loss(self.model, base, batch, BETA),
        }
        self._loss = losses[kind]
        self._named = {name.replace(".default", ""): value for name, value in self.model.named_parameters()}

    def gradient(self, w: Tensors, batch: Any) -> tuple[float, Tensors]:
        """The loss at *w*, and its gradient."""
        for name, values in w.items():
            self._named[name].data.copy_(torch.from_numpy(values))
            self._named[name].grad = None
        loss = self._loss(batch)
        loss.backward()
        return loss.item(), {name: self._named[name].grad.double().numpy().copy() for name in w}


def random_tensors(seed: int, like: Mapping[str, Any]) -> Tensors:
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(0, 0.02, values.shape).astype(np.float32).astype(float) for name, values in like.items()
    }


def write_slot(path: Path, slot: str, tensors: Tensors) -> Path:
    write_adapter(path, {f"{slot}/{name}": values.astype(np.float32) for name, values in tensors.items()})
    return path


def assert_close(actual: Mapping[str, Any], expected: Mapping[str, Any], atol: float) -> None:
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=0, atol=atol)


@pytest.mark.parametrize(("kind", "micro_batch"), in_pairs(KINDS, MICRO_BATCHES[::-1]))
def test_fedprox_pulls_once_a_step(lab: Lab, kind: str, micro_batch: int) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    fields = job(kind, algorithm="fedprox", algorithm_params={"mu": MU})
    result, folder = train(lab, adapter, job=fields, micro_batch=micro_batch)
    x = {name: values.astype(float) for name, values in read(adapter).items()}
    plain = Plain(lab, kind, NO_DROPOUT, read(adapter))

    def trained(pulls: int) -> tuple[list[float], Tensors]:
        w, losses = dict(x), []
        for batch in batches(lab, steps=STEPS, batch_size=4, kind=kind):
            loss, g = plain.gradient(w, batch)
            losses.append(loss)
            w = {name: w[name] - LR * (g[name] + pulls * MU * (w[name] - x[name])) for name in w}
        return losses, {name: w[name] - x[name] for name in w}

    losses, delta = trained(pulls=1)
    assert_close(read(folder / DELTA_FILE), delta, atol=1e-6)
    assert [result.metrics["train_loss_first"], result.metrics["train_loss_last"]] == pytest.approx(losses, abs=1e-5)
    for pulls in (0, 4):  # no pull, and one for each of four micro-batches: the test would notice both
        other = trained(pulls)[1]
        assert max(np.abs(other[name] - delta[name]).max() for name in delta) > 1e-4


@pytest.mark.parametrize(("kind", "micro_batch"), in_pairs(KINDS, MICRO_BATCHES))
def test_scaffold_corrects_each_step_and_updates_its_client_state(lab: Lab, kind: str, micro_batch: int) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    x = {name: values.astype(float) for name, values in read(adapter).items()}
    c, c_k = random_tensors(1, x), random_tensors(2, x)
    result, folder = train(
        lab,
        adapter,
        job=job(kind, algorithm="scaffold", committed_update="0" * 64),
        micro_batch=micro_batch,
        broadcast=write_slot(lab.folder / "c.safetensors", "c", c),
        client_state=write_slot(lab.folder / "c_k.safetensors", "c_k", c_k),
    )
    plain = Plain(lab, kind, NO_DROPOUT, read(adapter))
    w = dict(x)
    for batch in batches(lab, steps=STEPS, batch_size=4, kind=kind):
        _, g = plain.gradient(w, batch)
        w = {name: w[name] - LR * g[name] for name in w}
        w = {name: w[name] - LR * (c[name] - c_k[name]) for name in w}
    new = {name: c_k[name] - c[name] + (x[name] - w[name]) / (STEPS * LR) for name in w}
    assert_close(read(folder / DELTA_FILE), {name: w[name] - x[name] for name in w}, atol=1e-6)
    assert_close(read(folder / EXTRAS_FILE), {f"delta_c/{name}": new[name] - c_k[name] for name in w}, atol=1e-5)
    assert_close(read(folder / CLIENT_STATE_FILE), {f"c_k/{name}": new[name] for name in w}, atol=1e-5)
    assert not result.client_state_lost


@pytest.mark.parametrize("kind", KINDS)
def test_warm_up_and_weight_decay_act_on_each_step_and_scaffold_counts_the_rates(lab: Lab, kind: str) -> None:
    """Step t of n has t / (n + 1) of the rate; SGD adds decay · w to the gradient."""
    steps, decay = 4, 0.1
    adapter = lab.adapter_0(NO_DROPOUT)
    x = {name: values.astype(float) for name, values in read(adapter).items()}
    c, c_k = random_tensors(1, x), random_tensors(2, x)
    fields = {"steps": steps, "warmup_steps": 2, "weight_decay": decay, "committed_update": "0" * 64}
    _, folder = train(
        lab,
        adapter,
        job=job(kind, algorithm="scaffold", **fields),
        broadcast=write_slot(lab.folder / "c.safetensors", "c", c),
        client_state=write_slot(lab.folder / "c_k.safetensors", "c_k", c_k),
    )
    plain = Plain(lab, kind, NO_DROPOUT, read(adapter))
    w, rates = dict(x), [LR / 3, 2 * LR / 3, LR, LR]
    for rate, batch in zip(rates, batches(lab, steps=steps, batch_size=4, kind=kind), strict=True):
        _, g = plain.gradient(w, batch)
        w = {name: w[name] - rate * (g[name] + decay * w[name] + c[name] - c_k[name]) for name in w}
    new = {name: c_k[name] - c[name] + (x[name] - w[name]) / sum(rates) for name in w}
    assert_close(read(folder / DELTA_FILE), {name: w[name] - x[name] for name in w}, atol=2e-6)
    assert_close(read(folder / CLIENT_STATE_FILE), {f"c_k/{name}": new[name] for name in w}, atol=2e-5)


def test_an_update_is_clipped_as_a_whole(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algorithms, "find", load_example)
    adapter = lab.adapter_0(NO_DROPOUT)
    plain = read(train(lab, adapter, job=job("sft", algorithm="far", plain_client=True))[1] / DELTA_FILE)
    norm = np.sqrt(sum(np.square(values.astype(float)).sum() for values in plain.values()))
    for bound in (norm / 3, norm * 3):
        fields = job("sft", algorithm="clipping", algorithm_params={"bound": bound})
        clipped = read(train(lab, adapter, job=fields)[1] / DELTA_FILE)
        assert_close(clipped, {name: values * min(1, bound / norm) for name, values in plain.items()}, atol=1e-9)


def test_an_update_may_be_finished_in_numpy_and_in_float64(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Client(ClientHalf[Any]):
        def finish_update(self, delta: Mapping[str, Any]) -> Mapping[str, Any]:
            return {name: 2 * tensor.numpy().astype(float) for name, tensor in delta.items()}

    example = load_example("clipping")
    monkeypatch.setattr(algorithms, "find", lambda _: replace(example, client=Client))
    adapter = lab.adapter_0(NO_DROPOUT)
    plain = read(train(lab, adapter, job=job("sft", algorithm="far", plain_client=True))[1] / DELTA_FILE)
    doubled = read(train(lab, adapter, job=job("sft", algorithm="clipping"))[1] / DELTA_FILE)
    assert_close(doubled, {name: 2 * values for name, values in plain.items()}, atol=0)


def test_an_update_whose_tensors_changed_is_a_failure_of_the_algorithm(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client(ClientHalf[Any]):
        def finish_update(self, delta: Mapping[str, Any]) -> Mapping[str, Any]:
            return {name: tensor[:1] for name, tensor in delta.items()}

    example = load_example("clipping")
    monkeypatch.setattr(algorithms, "find", lambda _: replace(example, client=Client))
    with pytest.raises(TaskFailed, match="finish_update of the algorithm clipping returned other") as caught:
        train(lab, lab.adapter_0(NO_DROPOUT), job=job("sft", algorithm="clipping"))
    assert caught.value.failure.kind == FailureKind.ALGORITHM


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_a_stays_and_an_update_holds_b_alone(lab: Lab, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clipping uses the norm of B's gradients alone, although PEFT makes A trainable again unnoticed."""
    lora = LoraSection(rank=4, alpha=6, freeze_a=True)
    adapter = lab.adapter_0(lora)
    seen: list[dict[str, torch.Tensor]] = []
    tensors = AttachedAdapter.tensors

    def watched(attached: AttachedAdapter) -> dict[str, torch.Tensor]:
        seen.append(tensors(attached))
        return seen[-1]

    monkeypatch.setattr(AttachedAdapter, "tensors", watched)
    norm = 0.05
    _, folder = train(lab, adapter, job=job(kind, algorithm="scaffold", lora=lora, max_grad_norm=norm, steps=3))
    before, after = seen
    for name, value in before.items():
        assert torch.equal(value, after[name]) == ("lora_A" in name)

    x = {name: values.astype(float) for name, values in read(adapter).items() if "lora_B" in name}
    plain = Plain(lab, kind, lora, read(adapter))
    w = dict(x)
    for batch in batches(lab, steps=3, batch_size=4, kind=kind):
        _, g = plain.gradient(w, batch)
        g_norm = np.sqrt(sum(np.square(values).sum() for values in g.values()))
        assert g_norm > norm
        w = {name: w[name] - LR * g[name] * (norm / (g_norm + 1e-6)) for name in w}  # torch adds the 1e-6
    assert_close(read(folder / DELTA_FILE), {name: w[name] - x[name] for name in w}, atol=1e-6)
    assert read(folder / EXTRAS_FILE).keys() == {f"delta_c/{name}" for name in x}
    assert read(folder / CLIENT_STATE_FILE).keys() == {f"c_k/{name}" for name in x}


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_alpha_over_rank(lab: Lab, kind: str) -> None:
    """The first loss equals the loss of W + (6/4) B A in plain transformers."""
    lora = LoraSection(rank=4, alpha=6)
    adapter = lab.adapter_0(lora)
    start = read(adapter)
    model = AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32)
    for name, module in model.named_modules():
        if (a := start.get(f"base_model.model.{name}.lora_A.weight")) is not None:
            module.weight.data += 1.5 * torch.from_numpy(start[f"base_model.model.{name}.lora_B.weight"] @ a)
    batch = batches(lab, steps=STEPS, batch_size=4, kind=kind)[0]
    with torch.no_grad():
        expected = plain_loss(model, batch) if kind == "sft" else plain_dpo_loss(model, bare(lab), batch, BETA)
    result, _ = train(lab, adapter, job=job(kind, lora=lora))
    assert result.metrics["train_loss_first"] == pytest.approx(expected.item(), abs=1e-5)
