"""Every family on a CUDA GPU, in each precision: prepared, trained for a few steps, evaluated on plain PEFT's loss."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from peft import LoraConfig, get_peft_model, set_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from agent.configuration.settings import ComputeSettings  # noqa: E402
from agent.train.base.device import autocast  # noqa: E402
from agent.train.suitability.probe import plain_log_probabilities  # noqa: E402
from shared.adapters.lora import module_of  # noqa: E402
from shared.campaign.spec import LoraSection  # noqa: E402
from tests.train.conftest import Lab, write_rows  # noqa: E402
from tests.zoo.conftest import ROWS  # noqa: E402
from tests.zoo.families import FAMILIES, Family  # noqa: E402

pytestmark = [pytest.mark.deep, pytest.mark.train]

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

_TOLERANCES = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 2e-2}
_GPU = torch.device("cuda", 0)


@pytest.fixture
def lab_of(tmp_path: Path) -> Callable[[Family], Lab]:
    def make(family: Family) -> Lab:
        from agent.train.worker import Worker

        rows = write_rows(tmp_path / "rows.jsonl", ROWS)
        return Lab(family.make(tmp_path / "model"), rows, rows, tmp_path, Worker())

    return make


@pytest.mark.parametrize("dtype", _TOLERANCES)
@pytest.mark.parametrize(
    "family", [pytest.param(each, id=each.name) for each in FAMILIES if not each.refusal or each.targets]
)
def test_a_family_trains_and_its_loss_is_that_of_plain_peft(
    lab_of: Callable[[Family], Lab], family: Family, dtype: str
) -> None:
    lab = lab_of(family)
    gpu = {"compute": ComputeSettings(device="cuda", dtype=dtype)}
    lora = LoraSection(rank=4, alpha=8, target_modules=list(family.targets) or "all-linear")
    lab.fingerprint = lab.run(lab.work(lab.prepare_job(lora=lora), **gpu)).fingerprint
    adapter = lab.adapter_0(lora)
    trained = lab.run(lab.work(lab.train_job(adapter, lora=lora, steps=24), adapter=adapter, **gpu))
    skipped = 24 - trained.metrics["steps"]
    assert skipped == 0 or (dtype == "float16" and skipped < 24), "float16 finds its scale within a few steps"
    evaluated = lab.run(lab.work(lab.evaluate_job(adapter, lora=lora), adapter=adapter, **gpu))
    plain = _plain_loss(lab, adapter, lora, dtype)
    assert evaluated.metrics["held_out_loss"] == pytest.approx(plain, abs=_TOLERANCES[dtype])


def test_progress_tells_the_memory_and_the_use_of_the_gpu(lab_of: Callable[[Family], Lab]) -> None:
    lab = lab_of(next(each for each in FAMILIES if not each.refusal))
    gpu = {"compute": ComputeSettings(device="cuda")}
    lab.fingerprint = lab.run(lab.work(lab.prepare_job(), **gpu)).fingerprint
    adapter = lab.adapter_0()
    lab.run(lab.work(lab.train_job(adapter), adapter=adapter, **gpu))
    last = lab.reports[-1]
    assert last.gpu_memory_bytes == torch.cuda.get_device_properties(0).total_memory
    assert 0 < last.peak_memory_bytes <= last.gpu_memory_bytes
    if importlib.util.find_spec("pynvml") is None:
        assert last.gpu_utilization is None
    else:
        assert 0 <= last.gpu_utilization <= 1


def _plain_loss(lab: Lab, adapter: Path, lora: LoraSection, dtype: str) -> float:
    """The loss of plain PEFT on the held-out rows, in nats a token."""
    tensors = load_file(adapter)
    modules = {module_of(name) or "" for name in tensors}
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=[module.removeprefix("base_model.model.") for module in modules],
        task_type="CAUSAL_LM",
    )
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(lab.model, dtype=getattr(torch, dtype)), config)
    set_peft_model_state_dict(model, tensors)
    rows = next(iter(lab.worker.warm.data._in_memory.values())).held_out.completions
    with autocast(_GPU, None if dtype == "float32" else getattr(torch, dtype)):
        sums = plain_log_probabilities(model.to(_GPU).eval(), rows, _GPU)
    return float(-sums.sum() / rows.n_supervised.sum())
