"""Bases in int8 and nf4, on the CPU: training over them, their memory, and state that must not remain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from agent.errors import TaskFailed
from agent.orders.job_files import DELTA_FILE
from agent.orders.on_base.score import Completed
from agent.orders.protocol import Failed
from agent.train.base import quantization
from agent.train.base.architecture import check_architecture
from agent.train.base.model import Base
from agent.train.process import memory
from agent.train.worker import Worker
from shared import algorithms
from shared.adapters.files import AdapterFile
from shared.algorithms import Algorithm, fedavg
from shared.campaign.spec import BaseSection, LoraSection, Quantization
from shared.digest import sha256_file
from shared.wire.tasks.leases import FailureKind
from tests.support.tiny import byte_level_bpe
from tests.train.conftest import LORA, Lab, first_in_fast, in_pairs, read
from tests.train.kinds.test_training import NO_DROPOUT, train
from tests.train.local_requests import ask, lora_file, merge_request, score_request

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.train

CPU = torch.device("cpu")
SFT: dict[str, Any] = {"lora": NO_DROPOUT}
DPO = SFT | {"training_kind": "dpo", "kind_params": {"beta": 0.3}}
QUANTIZATIONS = pytest.mark.parametrize("scheme", ["int8", "nf4"])
ONE_QUANTIZATION = pytest.mark.parametrize("scheme", first_in_fast(["nf4", "int8"]))
QUANTIZATIONS_AND_KINDS = pytest.mark.parametrize(
    ("scheme", "kind"), in_pairs(["int8", "nf4"], [SFT, DPO]), ids=["int8-sft", "int8-dpo", "nf4-sft", "nf4-dpo"]
)


def section(scheme: Quantization) -> BaseSection:
    return BaseSection(model="tiny/llama", quantization=scheme)


def loaded(folder: Path, scheme: Quantization | None, dtype: torch.dtype = torch.float32) -> Base:
    return Base(folder, CPU, dtype, quantization=scheme, remote_code=False)


def write_dequantized(folder: Path, scheme: Quantization, target: Path) -> Path:
    """Write the model with the dequantised weights; it has no quantised layer."""
    model = loaded(folder, scheme).language_model.dequantize()
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    changed = {name: not torch.equal(value, model.state_dict()[name]) for name, value in plain.state_dict().items()}
    assert changed == {name: "_proj." in name for name in changed}, "only linear layers without the head are quantised"
    plain.load_state_dict(model.state_dict())
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    plain.save_pretrained(target)
    return target


@pytest.fixture
def dequantized(lab: Lab, tmp_path: Path) -> Callable[[Quantization], Lab]:
    def make(scheme: Quantization) -> Lab:
        (tmp_path / "plain").mkdir()
        plain = Lab(write_dequantized(lab.model, scheme, tmp_path / "plain"), lab.data, lab.pairs, tmp_path, Worker())
        plain.fingerprint = plain.run(plain.work(plain.prepare_job())).fingerprint
        return plain

    return make


# training


@QUANTIZATIONS_AND_KINDS
def test_one_small_step_moves_every_tensor_in_float32(lab: Lab, scheme: Quantization, kind: dict[str, Any]) -> None:
    """AdamW's first step moves each weight by the learning rate, independent of its gradient.

    Rounded to bfloat16, as TRL does it, weights of 0.05 would move by 1e-4 or not at all.
    """
    adapter = lab.adapter_0(NO_DROPOUT)
    job = kind | {"base": section(scheme), "steps": 1, "learning_rate": 1e-6}
    result, folder = train(lab, adapter, job=job)
    assert result.metrics["steps"] == 1
    with AdapterFile(folder / DELTA_FILE) as file, AdapterFile(adapter) as start:
        start.contract.check(file)
    for name, values in read(folder / DELTA_FILE).items():
        assert values.dtype == np.float32
        largest = float(np.abs(values).max())
        assert 0.9e-6 < largest < 1.1e-6, name


@QUANTIZATIONS_AND_KINDS
def test_training_matches_training_over_the_dequantised_weights(
    lab: Lab, dequantized: Callable[[Quantization], Lab], scheme: Quantization, kind: dict[str, Any]
) -> None:
    """With plain SGD, whose steps are proportional to the gradients, so the deltas compare the gradients."""
    adapter = lab.adapter_0(NO_DROPOUT)
    job = kind | {"optimizer": "sgd", "learning_rate": 0.1, "max_grad_norm": None, "steps": 3}
    quantized, folder = train(lab, adapter, job=job | {"base": section(scheme)})
    plain = dequantized(scheme)
    expected, plain_folder = train(plain, adapter, job=job)
    assert quantized.metrics["train_loss_mean"] == pytest.approx(expected.metrics["train_loss_mean"], abs=1e-5)
    delta = read(folder / DELTA_FILE)
    for name, values in read(plain_folder / DELTA_FILE).items():
        assert np.abs(values).max() > 1e-5, name
        np.testing.assert_allclose(delta[name], values, atol=1e-2 * np.abs(values).max(), err_msg=name)


@QUANTIZATIONS
def test_adapter_0_is_the_one_that_a_full_base_draws(lab: Lab, scheme: Quantization) -> None:
    works = [lab.work(lab.init_job()), lab.work(lab.init_job(base=section(scheme)))]
    assert lab.run(works[0]) == lab.run(works[1])


def gpt2(folder: Path, width: int) -> Path:
    tokenizer = byte_level_bpe()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=width,
        n_layer=1,
        n_head=2,
        eos_token_id=tokenizer.eos_token_id,
        n_positions=128,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("scheme", "target_modules"), in_pairs(["int8", "nf4"], ["all-linear", ["c_attn", "c_proj"]]))
def test_layers_with_transposed_weights_have_the_same_adapter(
    lab: Lab, tmp_path: Path, scheme: Quantization, target_modules: Any
) -> None:
    """GPT-2's Conv1D stores (in, out); a linear layer stores (out, in)."""
    other = Lab(gpt2(tmp_path / "gpt2", width=64), lab.data, lab.pairs, tmp_path, Worker())
    other.fingerprint = other.run(other.work(other.prepare_job())).fingerprint
    lora = LoraSection(rank=2, target_modules=target_modules)
    adapter = other.adapter_0(lora)
    job = {"lora": lora, "optimizer": "sgd", "learning_rate": 0.1}
    deltas = [
        read(train(other, adapter, job=job | {"base": base})[1] / DELTA_FILE)
        for base in (BaseSection(model="tiny/llama"), section(scheme))
    ]
    for name, values in deltas[0].items():
        error = np.linalg.norm(deltas[1][name] - values) / np.linalg.norm(values)
        assert error < (0.05 if scheme == "int8" else 0.5), name  # 1.4 for a matrix that has nothing to do with it


@QUANTIZATIONS_AND_KINDS
def test_half_precision_computes_nearly_the_same(lab: Lab, scheme: Quantization, kind: dict[str, Any]) -> None:
    """Norms, embeddings and head are in bfloat16 too. Float32 there would change less than the tolerance."""
    adapter = lab.adapter_0(NO_DROPOUT)
    job = kind | {"base": section(scheme), "optimizer": "sgd", "learning_rate": 0.1, "max_grad_norm": None}
    full, folder = train(lab, adapter, job=job)
    rounded = job | {"base": section(scheme).model_copy(update={"cpu_dtype": "bfloat16"})}
    half, half_folder = train(lab, adapter, job=rounded)
    assert half.metrics["train_loss_mean"] == pytest.approx(full.metrics["train_loss_mean"], abs=0.05)
    tensors = [read(path / DELTA_FILE) for path in (folder, half_folder)]
    deltas = [np.concatenate([values.ravel() for values in delta.values()]) for delta in tensors]
    assert np.dot(*deltas) / np.linalg.norm(deltas[0]) / np.linalg.norm(deltas[1]) > 0.99
    assert deltas[1].dtype == np.float32


# memory


def n_bytes(model: Any) -> tuple[int, int]:
    """Bytes of the linear layers' weights without the head, and of all other parameters."""
    linear = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }
    sizes = [(id(value) in linear, value.numel() * value.element_size()) for value in model.parameters()]
    return sum(size for is_linear, size in sizes if is_linear), sum(size for is_linear, size in sizes if not is_linear)


@pytest.mark.parametrize(("scheme", "share"), [("int8", 4), ("nf4", 8)])
def test_weights_take_a_fourth_or_an_eighth_of_the_memory(lab: Lab, scheme: Quantization, share: int) -> None:
    linear, others = n_bytes(loaded(lab.model, None).language_model)
    base = loaded(lab.model, scheme)
    assert n_bytes(base.language_model) == (linear // share, others)
    with base.adapter(LORA, seed=0) as attached:
        assert {value.dtype for value in attached.parameters.values()} == {torch.float32}
    assert n_bytes(base.language_model) == (linear // share, others), "an adapter leaves no copy of the weights behind"


# warm and cold children


@ONE_QUANTIZATION
def test_a_warm_child_gives_what_a_cold_one_gives(lab: Lab, start_child: Any, scheme: Quantization) -> None:
    """SFT, evaluation, DPO, SFT in one process; then the last two and the evaluation in a new one."""
    adapter, base = lab.adapter_0(), {"base": section(scheme)}

    def trained(child: Any, **changes: Any) -> Any:
        return child.result(lab.work(lab.train_job(adapter, **(base | changes)), adapter=adapter))

    def evaluated(child: Any) -> Any:
        return child.result(lab.work(lab.evaluate_job(adapter, **base), adapter=adapter))

    warm = start_child()
    trained(warm, round=1)
    loss = evaluated(warm)
    dpo_result = trained(warm, training_kind="dpo")
    last = trained(warm, round=2)
    assert warm.log.read_text().count(f"base model loaded: {scheme}") == 1
    cold = start_child()
    again = trained(cold, round=2)
    assert (again.delta, again.metrics["train_loss_mean"]) == (last.delta, last.metrics["train_loss_mean"])
    assert trained(cold, training_kind="dpo").delta == dpo_result.delta
    assert evaluated(cold) == loss


def test_one_base_stays_loaded_and_is_never_taken_for_another(lab: Lab, new_lab: Callable[..., Lab]) -> None:
    adapter, fresh = lab.adapter_0(), new_lab()
    fresh.fingerprint = lab.fingerprint
    digests: list[set[str]] = []
    for base in (BaseSection(model="tiny/llama"), section("int8"), section("nf4")):
        digests.append({train(fresh, adapter, job={"base": base})[0].delta for _ in range(2)})
        model: Any = fresh.worker.warm.models._base and fresh.worker.warm.models._base.language_model
        assert not any(hasattr(module, "lora_A") for module in model.modules())
        assert not any(value.requires_grad or value.grad is not None for value in model.parameters())
    assert [len(deltas) for deltas in digests] == [1, 1, 1]
    assert len(set.union(*digests)) == 3


# evaluation and local requests


@QUANTIZATIONS_AND_KINDS
def test_the_held_out_loss_is_near_that_of_the_full_base(
    lab: Lab, dequantized: Callable[[Quantization], Lab], scheme: Quantization, kind: dict[str, Any]
) -> None:
    """It equals the loss over the dequantised weights, which training uses too."""
    adapter = lab.adapter_0(NO_DROPOUT)

    def evaluated(on: Lab, **changes: Any) -> Any:
        return on.run(on.work(on.evaluate_job(adapter, **(kind | changes)), adapter=adapter))

    quantized, full = evaluated(lab, base=section(scheme)), evaluated(lab)
    assert quantized.metrics["held_out_loss"] == pytest.approx(
        full.metrics["held_out_loss"], abs={"int8": 0.01, "nf4": 0.1}[scheme]
    )
    assert quantized.metrics["held_out_loss"] != full.metrics["held_out_loss"]
    assert quantized.metrics["held_out_loss"] == pytest.approx(
        evaluated(dequantized(scheme)).metrics["held_out_loss"], abs=1e-5
    )


@ONE_QUANTIZATION
def test_answers_and_likelihoods_match_the_dequantised_base(
    lab: Lab, dequantized: Callable[[Quantization], Lab], scheme: Quantization
) -> None:
    adapter, plain = lab.adapter_0(), dequantized(scheme)
    rows = [Completed(prompt="What does the water do now?", completion="the water rises")]
    for file in (None, lora_file(adapter)):
        quantized = lab.carry_out(score_request(lab, rows, adapter=file, base=section(scheme)))
        expected = plain.carry_out(score_request(plain, rows, adapter=file))
        full = lab.carry_out(score_request(lab, rows, adapter=file))
        assert quantized.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
        assert quantized.log_probs != pytest.approx(full.log_probs, abs=1e-4)
        assert ask(lab, adapter=file, base=section(scheme)) == ask(plain, adapter=file)


@QUANTIZATIONS
def test_an_adapter_is_merged_into_the_full_base(lab: Lab, tmp_path: Path, scheme: Quantization) -> None:
    adapter, digests = lab.adapter_0(), []
    for name, base in (("full", BaseSection(model="tiny/llama")), (scheme, section(scheme))):
        lab.carry_out(merge_request(lab, adapter, tmp_path / name, base=base))
        digests.append(sha256_file(tmp_path / name / "model.safetensors"))
    assert digests[0] == digests[1]


# refusals


def refusal(child: Any, work: Any) -> str:
    answer, _ = child.send(work)
    assert isinstance(answer, Failed)
    assert answer.failure.kind == FailureKind.BASE_MODEL
    return answer.failure.message


def test_without_the_library_preparing_says_what_to_install(lab: Lab, start_child: Any) -> None:
    without = "import sys; sys.modules['bitsandbytes'] = None; from agent.train.__main__ import main; main()"
    child = start_child("-c", without)
    message = refusal(child, lab.work(lab.prepare_job(base=section("nf4"))))
    assert message == (
        "the campaign quantises its base to nf4 with bitsandbytes, which is not installed: "
        "run pip install 'fedloom[agent]'"
    )
    child.result(lab.work(lab.prepare_job()))  # other campaigns continue


@pytest.mark.deep
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="a CPU of another kind, or without AVX2"
)
def test_a_cpu_without_avx2_is_refused(lab: Lab, start_child: Any) -> None:
    child = start_child(spawned=True, ATEN_CPU_CAPABILITY="default")
    assert "needs a CPU with AVX2" in refusal(child, lab.work(lab.prepare_job(base=section("int8"))))


def test_a_device_that_bitsandbytes_is_not_used_on_is_refused() -> None:
    with pytest.raises(TaskFailed, match=r'set compute\.device = "cpu" in agent\.toml') as caught:
        quantization.check_support("nf4", torch.device("mps"))
    assert caught.value.failure.kind == FailureKind.BASE_MODEL


def test_rows_that_are_no_multiple_of_a_block_are_refused_in_nf4_only(tmp_path: Path) -> None:
    folder = gpt2(tmp_path / "gpt2", width=96)
    with pytest.raises(
        TaskFailed, match=r"multiple of 64, and transformer\.h\.0\.attn\.c_attn has 96: use int8"
    ) as caught:
        loaded(folder, "nf4")
    assert caught.value.failure.kind == FailureKind.BASE_MODEL
    loaded(folder, "int8")


def test_a_base_whose_files_are_quantised_already_is_refused(lab: Lab, tmp_path: Path) -> None:
    loaded(lab.model, "nf4").language_model.save_pretrained(tmp_path)
    with pytest.raises(TaskFailed, match="quantised already") as caught:
        check_architecture(tmp_path, remote_code=False)
    assert caught.value.failure.kind == FailureKind.BASE_MODEL


def test_running_out_of_memory_in_training_is_recognised(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(fedavg.Client):
        def extra_grad(self, name: str, w: Any, anchor: Any) -> Any:
            return torch.empty(1 << 60, dtype=torch.uint8)

    adapter, job = lab.adapter_0(), {"base": section("nf4")}
    with monkeypatch.context() as patch:
        patch.setattr(algorithms, "find", lambda _: Algorithm("greedy", "", fedavg.Params, fedavg.Server, Greedy))
        with pytest.raises(RuntimeError) as caught:
            train(lab, adapter, job=job)
    assert memory.is_exhausted(caught.value)
    assert lab.worker.warm.models._base is None
    train(lab, adapter, job=job)


def test_running_out_of_memory_while_quantising_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers replaces the original error by another one."""

    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", fail)
    with pytest.raises(TaskFailed, match="cannot be quantised here: too little memory") as caught:
        loaded(lab.model, "nf4")
    assert caught.value.failure.kind == FailureKind.BASE_MODEL
