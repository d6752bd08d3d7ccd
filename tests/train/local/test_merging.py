"""The merged model, loaded by plain transformers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from agent.errors import TaskFailed
from agent.orders.on_base.merge import Merged
from agent.orders.on_base.model import LoraFile
from agent.orders.protocol import LocalPhase
from agent.train.base.model import Base
from agent.train.local import merging
from shared.adapters.files import write_adapter
from shared.campaign.spec import LoraSection
from shared.wire.tasks.leases import FailureKind, Phase
from tests.support.tiny import byte_level_bpe
from tests.train.conftest import Lab, first_in_fast
from tests.train.local_requests import ask, merge_request, peft_model

pytestmark = pytest.mark.train


@pytest.fixture(params=["untied", "tied"])
def base(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Path:
    """The tiny model, or a copy whose head is tied to its embedding."""
    if request.param == "untied":
        return lab.model
    folder = Path(shutil.copytree(lab.model, tmp_path / "tied"))
    model = LlamaForCausalLM.from_pretrained(folder)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    return folder


def merge(lab: Lab, adapter: Path, folder: Path, **changes: Any) -> Merged:
    return lab.carry_out(merge_request(lab, adapter, folder, **changes))


def logits(model: Any, base: Path) -> torch.Tensor:
    inputs = AutoTokenizer.from_pretrained(base)(
        "the market turns and the fever falls again slowly", return_tensors="pt"
    )
    with torch.no_grad():
        output: torch.Tensor = model(input_ids=inputs["input_ids"]).logits
    return output


def test_a_merged_model_is_base_and_adapter(lab: Lab, base: Path, tmp_path: Path) -> None:
    adapter, out = lab.adapter_0(), tmp_path / "out"
    merged = merge(lab, adapter, out, path=base, fingerprint=None)
    reloaded = AutoModelForCausalLM.from_pretrained(out)
    assert reloaded.dtype == torch.float32
    expected = logits(peft_model(base, adapter), base)
    assert (logits(reloaded, base) - expected).abs().max() <= 1e-4
    assert (logits(AutoModelForCausalLM.from_pretrained(base), base) - expected).abs().max() > 1e-2
    assert 0 < merged.merge_difference == merged.file_difference <= 1e-4
    assert reloaded.config.tie_word_embeddings == (base != lab.model)
    names, in_base = set(load_file(out / "model.safetensors")), set(load_file(base / "model.safetensors"))
    assert names == in_base
    assert {path.name for path in out.iterdir()} == {path.name for path in base.iterdir()}
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    phases = [report.phase for report in lab.reports if report.phase is not Phase.READING_MODEL]  # read before
    assert phases == [Phase.LOADING_MODEL, LocalPhase.MERGING, LocalPhase.WRITING, LocalPhase.CHECKING]


def test_what_a_model_of_several_modalities_needs_is_in_its_merged_model(lab: Lab, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lab.model, tmp_path / "base"))
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"):
        (folder / name).write_text('{"image_mean": [0.5]}')
    merge(lab, lab.adapter_0(), tmp_path / "out", path=folder)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in folder.iterdir()}
    assert (tmp_path / "out" / "preprocessor_config.json").read_text() == '{"image_mean": [0.5]}'


@pytest.mark.parametrize("dtype", first_in_fast(["bfloat16", "float16"]))
def test_a_half_dtype_rounds_what_was_merged_in_float32(lab: Lab, base: Path, tmp_path: Path, dtype: str) -> None:
    adapter = lab.adapter_0()
    half = merge(lab, adapter, tmp_path / "half", path=base, fingerprint=None, dtype=dtype)
    merge(lab, adapter, tmp_path / "full", path=base, fingerprint=None)
    assert half.merge_difference <= 1e-4 < half.file_difference < 1
    rounded = load_file(tmp_path / "half" / "model.safetensors")
    for name, value in load_file(tmp_path / "full" / "model.safetensors").items():
        assert torch.equal(rounded[name], value.to(getattr(torch, dtype)))
    assert str(AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype) == f"torch.{dtype}"


def test_merging_leaves_the_warm_base_unchanged(lab: Lab, tmp_path: Path) -> None:
    before = ask(lab)
    merge(lab, lab.adapter_0(), tmp_path / "out")
    assert ask(lab) == before


def test_written_files_that_differ_from_the_merged_model_are_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = merging._save

    def spoil(model: Any, *folders: Path) -> None:
        model.model.norm.weight.data[0] += 0.5
        save(model, *folders)
        model.model.norm.weight.data[0] -= 0.5

    monkeypatch.setattr(merging, "_save", spoil)
    with pytest.raises(TaskFailed, match=r"read back, differs from the merged one: logits differ by up to \d"):
        merge(lab, lab.adapter_0(), tmp_path / "out")


def test_a_merge_that_changes_the_logits_is_refused(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "TOLERANCE", 1e-9)
    with pytest.raises(TaskFailed, match=r"merging changes .*; nothing was written"):
        merge(lab, lab.adapter_0(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_reported(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging.shutil, "copyfile", full)
    with pytest.raises(TaskFailed, match=r"cannot be written: .*No space left"):
        merge(lab, lab.adapter_0(), tmp_path / "out")


def test_a_base_with_few_positions_and_embeddings_is_merged(lab: Lab, tmp_path: Path) -> None:
    """Rows that fit into such a base can be trained on, so what was trained can be merged."""
    config = GPT2Config(vocab_size=300, n_positions=8, n_embd=32, n_layer=1, n_head=2, initializer_range=0.1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    byte_level_bpe().save_pretrained(tmp_path / "base")
    lora = LoraSection(rank=2, alpha=4, target_modules=["c_attn"])
    base = Base(tmp_path / "base", torch.device("cpu"), torch.float32, remote_code=False)
    with base.adapter(lora, seed=0) as attached:
        attached.draw(seed=0)
        tensors = {name: values.numpy() + 0.01 for name, values in attached.tensors().items()}
    adapter = LoraFile(weights=tmp_path / "adapter.safetensors", lora=lora)
    write_adapter(adapter.weights, tensors)
    request = merge_request(lab, adapter.weights, tmp_path / "out", path=tmp_path / "base", fingerprint=None)
    assert lab.carry_out(request.model_copy(update={"adapter": adapter})).merge_difference < 1e-4


def test_another_base_and_another_shape_are_refused(lab: Lab, tmp_path: Path) -> None:
    other = lab.fingerprint.model_copy(update={"config": "f" * 64})
    with pytest.raises(TaskFailed) as caught:
        merge(lab, lab.adapter_0(), tmp_path / "a", fingerprint=other)
    assert caught.value.failure.kind == FailureKind.FINGERPRINT
    assert "in its config:" in str(caught.value)
    request = merge_request(lab, lab.adapter_0(), tmp_path / "b")
    wrong = LoraFile(weights=request.adapter.weights, lora=LoraSection(rank=8))
    with pytest.raises(TaskFailed, match=r"shape \[4, 128\], expected \[8, 128\]"):
        lab.carry_out(request.model_copy(update={"adapter": wrong}))
    assert [list((tmp_path / name).iterdir()) for name in "ab"] == [[], []]
