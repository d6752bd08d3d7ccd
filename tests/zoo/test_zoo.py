"""Every family through a campaign of one round: refused in a sentence, or trained on the loss that plain PEFT has."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from peft import PeftModel  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from agent.configuration.settings import ComputeSettings  # noqa: E402
from agent.orders.on_base.merge import MergeRequest  # noqa: E402
from agent.orders.on_base.model import LocalModel, LoraFile  # noqa: E402
from agent.train.worker import Worker  # noqa: E402
from shared.campaign.spec import BaseSection, LoraSection  # noqa: E402
from tests.support.processes import ROOT  # noqa: E402
from tests.zoo.conftest import Trained, train  # noqa: E402
from tests.zoo.families import FAMILIES, UNREACHED, Family  # noqa: E402

pytestmark = pytest.mark.train

_FAST = {"Qwen3", "Qwen3-MoE", "ModernBERT decoder, transformed head", "RoBERTa", "T5"}
"""One of each fate: trained, with frozen experts, with its own head, refused by a measurement, by the configuration."""


_NOTICES = {
    "own head": "own head",
    "experts stay frozen": "the experts",
    "towers stay frozen": "towers that read no text",
}
"""What a result has in the output of the simulation."""


_ALIKE = {
    *("Llama", "Qwen2", "Gemma", "Phi", "GPT-NeoX", "GPT-J", "CodeGen", "GPT-BigCode", "BLOOM", "Falcon", "MPT"),
    *("XGLM", "BioGPT", "StableLM", "StarCoder2", "Cohere, scaled logits", "Granite, scaled logits", "GLM-4"),
    *("OLMo 2", "OLMo 3", "HyperCLOVA X, scaled logits", "Nemotron", "SmolLM3", "EXAONE 4", "ERNIE 4.5", "Apertus"),
    *("Persimmon", "OLMoE", "Mixtral", "Qwen2-MoE, shared expert", "Granite MoE", "Llama 4, text", "Mamba"),
    *("BERT decoder, transformed head", "GPT-Neo, local attention", "Falcon-H1, hybrid", "Bamba, hybrid"),
    *("Gemma 3, text", "Gemma 3n, text", "Cohere 2, scaled logits"),
}
"""Families that are trained as another one is: `make soak` tries them."""


def _each(families: list[Family]) -> list[Any]:
    def mark(family: Family) -> Any:
        if family.name in _FAST:
            return ()
        is_alike = family.name in _ALIKE and (not family.refusal or family.targets)
        return pytest.mark.soak if is_alike else pytest.mark.deep

    return [pytest.param(each, id=each.name, marks=mark(each)) for each in families]


@pytest.mark.parametrize("family", _each([each for each in FAMILIES if each.refusal]))
def test_a_model_that_cannot_be_trained_is_refused_in_a_sentence_before_any_training(
    family: Family, tmp_path: Path
) -> None:
    refused = train(family, tmp_path).done
    assert refused.returncode == 1, refused.stdout + refused.stderr
    said = " ".join((refused.stdout + refused.stderr).split())
    assert family.refusal in said
    assert "Traceback" not in said
    assert "round 1/1" not in said


@pytest.mark.parametrize("family", _each([each for each in FAMILIES if not each.refusal or each.targets]))
def test_a_trained_model_has_the_loss_of_plain_peft_also_once_merged(family: Family, tmp_path: Path) -> None:
    trained = train(family, tmp_path, family.targets)
    assert trained.done.returncode == 0, trained.done.stdout + trained.done.stderr
    said = " ".join(trained.done.stdout.split())
    for result, notice in _NOTICES.items():
        assert (notice in said) == (result in family.result), said
    base = AutoModelForCausalLM.from_pretrained(trained.model)
    before = trained.plain_loss(base)
    names = {name for name, _ in base.named_modules()}
    model = PeftModel.from_pretrained(base, trained.adapter)
    assert trained.plain_loss(model) == pytest.approx(trained.held_out_loss, abs=1e-3)
    assert trained.held_out_loss < before, "training helps"
    _check_adapter(trained, model, names)
    assert trained.plain_loss(_merged(trained)) == pytest.approx(trained.held_out_loss, abs=1e-3)


def _check_adapter(trained: Trained, model: Any, modules: set[str]) -> None:
    """The adapter covers exactly the modules that its configuration names, at its rank, and nothing that has no use."""
    tensors = load_file(trained.adapter / "adapter_model.safetensors")
    rank = json.loads((trained.adapter / "adapter_config.json").read_text())["r"]
    assert all(4 in tensor.shape and tensor.dim() == 2 for tensor in tensors.values())
    assert rank == 4
    loaded = {name.replace(".default", "") for name in model.state_dict() if ".lora_" in name}
    assert loaded == set(tensors), "plain PEFT makes no other adapter than the one that was trained"
    adapted = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors}
    assert adapted <= modules
    assert not any("vision" in name or "experts." in name for name in adapted)


def _merged(trained: Trained) -> Any:
    lora = LoraSection.model_validate(json.loads((trained.folder / "campaign.json").read_text())["lora"])
    folder = trained.folder / "merged"
    folder.mkdir()
    order = MergeRequest(
        model=LocalModel(
            base=BaseSection(model="org/tiny"), path=trained.model, fingerprint=None, cache=trained.folder / "cache"
        ),
        compute=ComputeSettings(device="cpu", threads=1),
        adapter=LoraFile(weights=trained.adapter / "adapter_model.safetensors", lora=lora),
        dtype="float32",
        folder=folder,
    )
    Worker().carry_out(order, lambda _: None, lambda _: None)
    return AutoModelForCausalLM.from_pretrained(folder)


def test_the_docs_list_every_family_with_its_result() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    listed = [line.split("|")[1:3] for line in page[page.index("| family |") :].splitlines()[2:]]
    results = {name.strip(): result.strip() for name, result in listed}
    assert list(results) == [family.name for family in FAMILIES]
    for family in FAMILIES:
        also = f"; trained with `target_modules: [{', '.join(family.targets)}]`" if family.targets else ""
        result = f"{family.result} some layers" if family.result == UNREACHED else family.result
        assert results[family.name] == result + also
