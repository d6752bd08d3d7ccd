"""Train jobs in this process, against plain torch, plain transformers and plain PEFT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.errors import TaskFailed
from agent.orders.job import Done
from agent.orders.job_files import ADAPTER_FILE, DELTA_FILE, EXTRAS_FILE, RESULT_FILE
from agent.train import kinds as agent_kinds
from agent.train.data.cache import DataCache
from agent.train.data.sampling import sample_rows
from agent.train.kinds.dpo import collate_pairs
from agent.train.kinds.sft import Training
from agent.train.trainer.arguments import TrainerSettings, micro_batch_of
from agent.train.trainer.loss import collate, select_hidden
from agent.train.worker import Worker
from shared import algorithms, kinds
from shared.adapters.files import write_adapter
from shared.algorithms import Algorithm, AlgorithmParams, ClientHalf, fedavg
from shared.campaign.spec import BaseSection, LoraSection, TrainingSection
from shared.digest import sha256_file
from shared.kinds.sft import Section
from shared.wire.tasks.leases import FailureKind, Phase
from shared.wire.tasks.results import Result, TrainResult
from tests.train.conftest import LORA, Lab, first_in_fast, read

pytestmark = pytest.mark.train

NO_DROPOUT = LoraSection(rank=4, alpha=8)


def train(lab: Lab, adapter: Path, *, job: dict[str, Any] | None = None, **work: Any) -> tuple[TrainResult, Path]:
    local_job = lab.work(lab.train_job(adapter, **(job or {})), adapter=adapter, **work)
    return lab.run(local_job), local_job.folder


def plain_model(lab: Lab, lora: LoraSection, tensors: dict[str, Any]) -> Any:
    """The base model with the adapter, loaded by PEFT alone."""
    base = AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    loaded = set_peft_model_state_dict(model, {name: torch.from_numpy(value) for name, value in tensors.items()})
    assert not loaded.unexpected_keys
    return model


def batches(
    lab: Lab, *, steps: int, batch_size: int, round_number: int = 1, kind: str = "sft"
) -> list[dict[str, torch.Tensor]]:
    """The batches of a round, one for each optimizer step, without a reference."""
    tokenizer, found = AutoTokenizer.from_pretrained(lab.model), kinds.find(kind)
    data = DataCache().prepare(
        lab.source(kind), "chat", 96, tokenizer, lab.fingerprint, lab.folder / "cache", lambda _: None, kind=found
    )
    rows = sample_rows(len(data.train), steps * batch_size, seed=7, round_number=round_number, client_number=0)
    training = agent_kinds.find(kind)(found.section())
    examples = training.examples(data.train, rows, np.zeros((len(rows), 2)))
    collate_batch: Any = collate_pairs if kind == "dpo" else collate
    return [collate_batch(examples[i : i + batch_size]) for i in range(0, len(examples), batch_size)]


def plain_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over the batch's supervised tokens, from all logits."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), batch["labels"][:, 1:].reshape(-1), ignore_index=-100
    )


def test_init_draws_a_from_the_seed_as_widely_as_peft_does_and_leaves_b_zero(lab: Lab) -> None:
    works = [lab.work(lab.init_job(seed=seed)) for seed in (1, 1, 2)]
    digests = [lab.run(work).adapter for work in works]
    assert digests[0] == digests[1] != digests[2]
    assert digests[0] == sha256_file(works[0].folder / ADAPTER_FILE)
    tensors = read(works[0].folder / ADAPTER_FILE)
    assert len(tensors) == 2 * 7 * 2
    for name, values in tensors.items():
        assert values.dtype == np.float32
        assert (values == 0).all() == ("lora_B" in name)
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")
    base = AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32)
    torch.manual_seed(1)
    drawn = dict(get_peft_model(base, config).named_parameters())
    for name, values in tensors.items():
        of_peft = drawn[name.replace(".weight", ".default.weight")].detach().numpy()
        assert values.shape == of_peft.shape
        assert np.abs(values).max() == pytest.approx(np.abs(of_peft).max(), rel=0.05)
        assert values.std() == pytest.approx(of_peft.std(), rel=0.1)


def test_a_train_job_leaves_delta_and_result_and_nothing_else(lab: Lab) -> None:
    adapter = lab.adapter_0()
    result, folder = train(lab, adapter)
    assert {path.name for path in folder.iterdir()} == {DELTA_FILE, RESULT_FILE}
    assert result.delta == sha256_file(folder / DELTA_FILE)
    assert Done.model_validate_json((folder / RESULT_FILE).read_bytes()) == Done(result=result, n_distinct=12)
    delta = read(folder / DELTA_FILE)
    assert delta.keys() == read(adapter).keys()
    assert list(delta) == sorted(delta)
    assert all(np.abs(values).max() > 0 for values in delta.values())


def test_metrics_and_reports_count_steps_and_real_tokens(lab: Lab) -> None:
    result, _ = train(lab, lab.adapter_0())
    expected = sum(int(batch["attention_mask"].sum()) for batch in batches(lab, steps=3, batch_size=4))
    metrics = result.metrics
    assert (metrics["steps"], metrics["tokens"]) == (3, expected)
    assert metrics["tokens_per_s"] == pytest.approx(metrics["tokens"] / metrics["seconds"])
    assert metrics["train_loss_first"] is not None
    assert metrics["peak_memory_bytes"] > 50 << 20
    assert lab.worker.warm.longest_row_tokens <= 96
    trained = [report for report in lab.reports if report.phase == Phase.TRAINING]
    assert (trained[0].done, trained[0].total) == (0, 3)
    assert (trained[-1].done, trained[-1].loss) == (3, metrics["train_loss_last"])


def test_global_plus_delta_is_the_local_model_in_plain_peft(lab: Lab) -> None:
    adapter = lab.adapter_0()
    result, folder = train(lab, adapter, job={"steps": 4})
    delta = read(folder / DELTA_FILE)
    start = read(adapter)
    (batch,) = batches(lab, steps=1, batch_size=4)
    before = plain_model(lab, LORA, start).eval()
    after = plain_model(lab, LORA, {name: start[name] + delta[name] for name in start}).eval()
    with torch.no_grad():
        assert plain_loss(after, batch) < plain_loss(before, batch) - 0.01
    reloaded = lab.folder / "sum.safetensors"
    write_adapter(reloaded, {name: start[name] + delta[name] for name in start})
    local_job = lab.work(lab.evaluate_job(reloaded), adapter=reloaded)
    assert lab.run(local_job).metrics["held_out_loss"] > 0
    assert result.metrics["train_loss_last"] is not None


def test_the_micro_batch_changes_nothing(lab: Lab) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    deltas = []
    for micro_batch in (8, 2, 1, 3):
        _, folder = train(lab, adapter, job={"lora": NO_DROPOUT, "batch_size": 8}, micro_batch=micro_batch)
        deltas.append(read(folder / DELTA_FILE))
    for other in deltas[1:]:
        for name, values in deltas[0].items():
            np.testing.assert_allclose(other[name], values, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "limit", "micro"), [(16, 4, 4), (6, 4, 3), (7, 4, 1), (4, 9, 4), (1, 1, 1), (2**31 - 1, 8, 1)]
)
def test_the_micro_batch_divides_the_batch(batch: int, limit: int, micro: int) -> None:
    assert micro_batch_of(batch, limit) == micro


def test_rounds_and_clients_train_on_rows_of_their_own(lab: Lab) -> None:
    adapter = lab.adapter_0()
    jobs = [{}, {}, {"round": 2}, {"client_number": 1}, {"seed": 8}]
    digests = [train(lab, adapter, job=job)[0].delta for job in jobs]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_one_adapter_after_another_leaves_the_base_model_as_it_was(lab: Lab, new_lab: Callable[..., Lab]) -> None:
    lab.run(lab.work(lab.init_job()))
    base = lab.worker.warm.models._base
    assert base is not None
    model = base._model
    modules = {name: id(module) for name, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.named_parameters()}
    config, attributes = dict(vars(model.config)), dict(vars(model))
    adapter = lab.adapter_0()
    train(lab, adapter)
    lab.run(lab.work(lab.evaluate_job(adapter), adapter=adapter))
    other = LoraSection(rank=2, target_modules=["q_proj", "mlp.up_proj"], dropout=0.5)
    train(lab, lab.adapter_0(other), job={"lora": other})
    assert lab.worker.warm.models._base is base
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert all(torch.equal(weights[name], value) for name, value in model.named_parameters())
    assert not any(value.requires_grad or value.grad is not None for value in model.parameters())
    assert not any(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert dict(vars(model.config)) == config
    assert vars(model).keys() == attributes.keys()


def test_a_crash_in_training_releases_the_base_model(
    new_lab: Callable[..., Lab], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = new_lab()
    fresh.fingerprint = lab.fingerprint
    adapter = fresh.adapter_0()
    fresh.run(fresh.work(fresh.prepare_job()))

    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr(ClientHalf, "extra_grad", fail)
        with pytest.raises(RuntimeError, match="boom"):
            train(fresh, adapter)
    assert fresh.worker.warm.models._base is None
    assert train(fresh, adapter)[0].delta == train(lab, adapter)[0].delta


def test_our_loss_and_gradients_match_trl(lab: Lab) -> None:
    """Only supervised positions pass through the head; TRL's own compute_loss uses all positions."""
    adapter = lab.adapter_0(NO_DROPOUT)
    (batch,) = batches(lab, steps=1, batch_size=8)
    lab.run(lab.work(lab.init_job()))
    base = lab.worker.warm.models._base
    assert base is not None
    results = []
    for ours in (True, False):
        with base.adapter(NO_DROPOUT, seed=0) as attached:
            for name, values in read(adapter).items():
                attached.parameters[name].data.copy_(torch.from_numpy(values))
            training = TrainingSection(steps=1, batch_size=8)
            trainer = Training(Section()).trainer(
                attached,
                [{"input_ids": [1, 2], "labels": [-100, 2]}] * 8,
                AutoTokenizer.from_pretrained(lab.model),
                TrainerSettings(str(lab.folder / "t"), training, 1e-3, micro_batch=8, seed=0, autocast_dtype=None),
            )
            count = (batch["labels"][:, 1:] != -100).sum()
            compute = trainer.compute_loss if ours else super(type(trainer), trainer).compute_loss
            loss = compute(trainer.model, dict(batch), num_items_in_batch=count)
            loss.backward()
            results.append((loss.item(), {name: value.grad.clone() for name, value in attached.parameters.items()}))
    plain = plain_model(lab, NO_DROPOUT, read(adapter))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert results[0][0] == pytest.approx(plain_loss(plain, batch).item(), abs=1e-6)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(gradient, results[1][1][name], atol=1e-7, rtol=1e-4)


def test_only_the_supervised_positions_reach_the_head(lab: Lab) -> None:
    (batch,) = batches(lab, steps=1, batch_size=4)
    model = AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32)
    whole = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    supervised = batch["labels"][:, 1:] != -100
    with select_hidden(model, torch.nn.functional.pad(supervised, (0, 1))):
        some = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(some[0], whole[:, :-1][supervised])


class ToyParams(AlgorithmParams):
    mu: float = 0.3


class ToyServer(fedavg.Server):
    broadcast = ("c", "d")


class ToyClient(ClientHalf[ToyParams]):
    """Uses every hook: FedProx's term, a correction after the step, and two extras."""

    extras = ("moved", "twice")

    def extra_grad(self, name: str, w: Any, anchor: Any) -> Any:
        return self.params.mu * (w - anchor) + self.broadcast["d"][name]

    def after_step(self, name: str, w: Any, lr: float) -> None:
        w -= lr * self.broadcast["c"][name]

    def finish(self, name: str, w: Any, anchor: Any, lr: float, steps: int) -> dict[str, Any]:
        return {"moved": (anchor - w) / (steps * lr), "twice": 2 * w}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = Algorithm("toy", "", ToyParams, ToyServer, ToyClient)
    monkeypatch.setattr(algorithms, "find", {"toy": algorithm}.__getitem__)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("micro_batch", first_in_fast([1, 4]))
def test_every_hook_of_an_algorithm_acts_as_in_a_plain_torch_loop(lab: Lab, micro_batch: int) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    start = read(adapter)
    generator = np.random.default_rng(0)
    sent = {
        f"{slot}/{name}": generator.normal(0, 0.01, values.shape).astype(np.float32)
        for slot in ("c", "d")
        for name, values in start.items()
    }
    broadcast = lab.folder / "broadcast.safetensors"
    write_adapter(broadcast, sent)
    lr, steps, mu = 1e-2, 5, 0.3
    job = {
        "lora": NO_DROPOUT,
        "algorithm": "toy",
        "algorithm_params": {"mu": mu},
        "steps": steps,
        "learning_rate": lr,
        "round": 2,
    }
    result, folder = train(lab, adapter, job=job, broadcast=broadcast, micro_batch=micro_batch)

    model = plain_model(lab, NO_DROPOUT, start).train()
    named = {name.replace(".default", ""): value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(named.values(), lr=lr, weight_decay=0.0)
    losses = []
    for batch in batches(lab, steps=steps, batch_size=4, round_number=2):
        optimizer.zero_grad()
        loss = plain_loss(model, batch)
        loss.backward()
        losses.append(loss.item())
        for name, w in named.items():
            term = mu * (w.detach() - torch.from_numpy(start[name])) + torch.from_numpy(sent[f"d/{name}"])
            w.grad.add_(term)
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, w in named.items():
                w -= lr * torch.from_numpy(sent[f"c/{name}"])
    delta, extras = read(folder / DELTA_FILE), read(folder / EXTRAS_FILE)
    assert result.extras == sha256_file(folder / EXTRAS_FILE)
    assert extras.keys() == {f"{slot}/{name}" for slot in ("moved", "twice") for name in start}
    for name, w in named.items():
        moved = w.detach().numpy() - start[name]
        np.testing.assert_allclose(delta[name], moved, atol=1e-6)
        np.testing.assert_allclose(extras[f"moved/{name}"], -moved / (steps * lr), atol=1e-4)
        np.testing.assert_allclose(extras[f"twice/{name}"], 2 * w.detach().numpy(), atol=1e-5)
    assert result.metrics["train_loss_first"] == pytest.approx(losses[0], abs=1e-5)
    assert result.metrics["train_loss_mean"] == pytest.approx(np.mean(losses), abs=1e-5)


@pytest.mark.usefixtures("toy")
def test_broadcast_tensors_of_another_model_are_refused(lab: Lab) -> None:
    adapter = lab.adapter_0()
    broadcast = lab.folder / "wrong.safetensors"
    write_adapter(broadcast, {"c/x": np.zeros((2, 2), np.float32)})
    with pytest.raises(TaskFailed, match="broadcast"):
        train(lab, adapter, job={"algorithm": "toy"}, broadcast=broadcast)


def failure(lab: Lab, adapter: Path, **job: Any) -> tuple[FailureKind, str, Path]:
    local_job = lab.work(lab.train_job(adapter, **job), adapter=adapter)
    with pytest.raises(TaskFailed) as caught:
        lab.run(local_job)
    return caught.value.failure.kind, caught.value.failure.message, local_job.folder


def test_divergence_is_a_failure_that_names_the_learning_rate_and_leaves_no_result(lab: Lab) -> None:
    kind, message, folder = failure(lab, lab.adapter_0(), learning_rate=1e30, steps=6)
    assert kind == FailureKind.CRASH
    assert "learning rate" in message
    assert list(folder.iterdir()) == []


def test_a_delta_that_is_not_finite_is_never_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoiler(fedavg.Client):
        def after_step(self, name: str, w: Any, lr: float) -> None:
            if "layers.1" in name and "v_proj.lora_B" in name:
                w[0, 0] = float("nan")

    algorithm = Algorithm("spoiler", "", fedavg.Params, fedavg.Server, Spoiler)
    monkeypatch.setattr(algorithms, "find", {"spoiler": algorithm}.__getitem__)
    kind, message, folder = failure(lab, lab.adapter_0(), algorithm="spoiler", steps=1)
    assert kind == FailureKind.CRASH
    assert message == "training diverged, the update is not finite: the learning rate may be too high"
    assert list(folder.iterdir()) == []


def test_an_algorithm_that_is_not_installed_is_refused_in_prepare_and_in_train(lab: Lab) -> None:
    with pytest.raises(TaskFailed, match="the algorithm far is not installed") as caught:
        lab.run(lab.work(lab.prepare_job(algorithm="far")))
    assert caught.value.failure.kind == FailureKind.ALGORITHM
    kind, message, folder = failure(lab, lab.adapter_0(), algorithm="far")
    assert kind == FailureKind.ALGORITHM
    assert "the algorithm far is not installed" in message
    assert list(folder.iterdir()) == []


def test_a_plain_client_half_trains_as_fedavg_does_whatever_its_algorithm_is_called(lab: Lab) -> None:
    adapter = lab.adapter_0()
    here, _ = train(lab, adapter)
    far = {"algorithm": "far", "algorithm_params": {"trim": 0.2}, "plain_client": True}
    elsewhere, _ = train(lab, adapter, job=far)
    assert (elsewhere.delta, elsewhere.extras) == (here.delta, None)


def test_a_global_adapter_of_another_shape_is_refused(lab: Lab) -> None:
    adapter = lab.adapter_0(LoraSection(rank=2))
    kind, message, _ = failure(lab, adapter)
    assert kind == FailureKind.BASE_MODEL
    assert "shape [2, 128], expected [4, 128]" in message


def test_half_precision_bases_train_float32_adapters(new_lab: Callable[..., Lab], lab: Lab) -> None:
    fresh = new_lab(Worker())
    fresh.fingerprint = lab.fingerprint
    job = {"lora": NO_DROPOUT, "steps": 4}
    on_half = {"base": BaseSection(model="tiny/llama", cpu_dtype="bfloat16")}
    adapter = lab.adapter_0(NO_DROPOUT)
    half, folder = train(fresh, adapter, job=job | on_half)
    full, _ = train(lab, adapter, job=job)
    assert half.metrics["train_loss_last"] == pytest.approx(full.metrics["train_loss_last"], abs=0.05)
    delta = read(folder / DELTA_FILE)
    assert all(values.dtype == np.float32 for values in delta.values())
    largest = max(delta.values(), key=lambda values: float(np.abs(values).max()))
    rounded = torch.from_numpy(largest).bfloat16().float().numpy()
    assert (rounded != largest).any()  # the values need float32: they are no bfloat16 values stored as float32
    local_job = fresh.work(fresh.evaluate_job(adapter, lora=NO_DROPOUT, **on_half), adapter=adapter)
    same = lab.work(lab.evaluate_job(adapter, lora=NO_DROPOUT), adapter=adapter)
    results: list[Result] = [fresh.run(local_job), lab.run(same)]
    assert results[0].metrics["held_out_loss"] == pytest.approx(results[1].metrics["held_out_loss"], abs=0.03)
