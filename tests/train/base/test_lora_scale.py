"""W + (α/r) B A with α ≠ r wherever an adapter is used, against a computation by hand from the two files.

Also the mean of such models over clients.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.orders.on_base.model import LoraFile
from agent.train.base.model import Base
from coordinator.engine.aggregation.aggregate import aggregate
from coordinator.engine.aggregation.factor_gap import FactorGap
from coordinator.engine.aggregation.files import ClientUpdate
from fedloom.adapters.folder import CONFIG_FILE, WEIGHTS_FILE, peft_config
from shared import algorithms
from shared.adapters.files import write_adapter
from shared.algorithms import RoundFacts
from shared.campaign.spec import CampaignSpec, LoraSection
from tests.train.conftest import Lab, read
from tests.train.local_requests import ask, merge_request

pytestmark = pytest.mark.train

LORA = LoraSection(rank=4, alpha=6)
SCALE = 1.5
Weights = dict[str, torch.Tensor]


def by_hand(model: Path, adapter: Path, scale: float = SCALE) -> Weights:
    """The base's weights in float64, with scale · B A added where the adapter has factors."""
    factors = {name.removeprefix("base_model.model."): values for name, values in read(adapter).items()}
    weights = {name: values.double() for name, values in load_file(model / "model.safetensors").items()}
    for name, b in factors.items():
        if "lora_B" in name:
            a = factors[name.replace("lora_B", "lora_A")]
            weights[name.replace("lora_B.", "")] += scale * torch.from_numpy(b.astype(np.float64) @ a)
    return weights


def merge(lab: Lab, adapter: Path, folder: Path) -> Weights:
    request = merge_request(lab, adapter, folder)
    lab.carry_out(request.model_copy(update={"adapter": LoraFile(weights=adapter, lora=LORA)}))
    return load_file(folder / "model.safetensors")


def model_by_hand(lab: Lab, adapter: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32)
    model.load_state_dict({name: values.float() for name, values in by_hand(lab.model, adapter).items()})
    return model.eval()


def logits(model: Any, lab: Lab) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(lab.model)("the market turns and the fever falls again", return_tensors="pt")
    with torch.no_grad():
        output: torch.Tensor = model(input_ids=tokens["input_ids"]).logits
    return output


def test_a_merged_model_has_alpha_over_rank_in_every_weight(lab: Lab, tmp_path: Path) -> None:
    adapter = lab.adapter_0(LORA)
    merged, base = merge(lab, adapter, tmp_path / "out"), load_file(lab.model / "model.safetensors")
    changed = 0
    for name, expected in by_hand(lab.model, adapter).items():
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-6)
        changed += not torch.equal(merged[name], base[name])
    assert changed == len(read(adapter)) / 2


def test_a_pulled_folder_has_the_scale_in_plain_peft(lab: Lab, tmp_path: Path) -> None:
    adapter = lab.adapter_0(LORA)
    sections = {"base": {"model": str(lab.model)}, "lora": {"rank": 4, "alpha": 6}, "data": {"name": "d"}}
    spec = CampaignSpec.model_validate({"name": "c", "training": {"steps": 1}, "rounds": 1, **sections})
    (tmp_path / WEIGHTS_FILE).write_bytes(adapter.read_bytes())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(peft_config(spec, read(adapter))))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(lab.model), tmp_path).eval()
    scales = [module.scaling["default"] for module in loaded.modules() if isinstance(module, LoraLayer)]
    assert scales == [SCALE] * (len(read(adapter)) // 2)
    torch.testing.assert_close(logits(loaded, lab), logits(model_by_hand(lab, adapter), lab), rtol=0, atol=1e-4)


def test_an_attached_adapter_has_the_scale_for_training_evaluation_and_answers(lab: Lab, tmp_path: Path) -> None:
    adapter = lab.adapter_0(LORA)
    with Base(lab.model, torch.device("cpu"), torch.float32, remote_code=False).adapter(LORA, seed=0) as attached:
        scales = {module.scaling["default"] for module in attached.model.modules() if isinstance(module, LoraLayer)}
    assert scales == {SCALE}
    folder = tmp_path / "by-hand"
    AutoTokenizer.from_pretrained(lab.model).save_pretrained(folder)
    model_by_hand(lab, adapter).save_pretrained(folder)
    expected = ask(lab, path=folder, fingerprint=None)
    assert ask(lab, adapter=LoraFile(weights=adapter, lora=LORA)) == expected
    assert ask(lab, adapter=LoraFile(weights=adapter, lora=LoraSection(rank=4, alpha=4))) != expected


# --- the mean over clients, on whole models


def federate(lab: Lab, folder: Path, *, freeze_a: bool) -> tuple[Path, list[Path], FactorGap]:
    """A round of FedAvg with random deltas: the new adapter, each client's adapter, and the gap."""
    folder.mkdir()
    parent, lora = lab.adapter_0(LORA), LORA.model_copy(update={"freeze_a": freeze_a})
    x, clients, updates = read(parent), [], []
    for k, p in enumerate((0.5, 0.3, 0.2)):
        rng = np.random.default_rng(k)
        delta = {
            name: rng.normal(0, 0.05, values.shape).astype(np.float32)
            for name, values in x.items()
            if not (freeze_a and "lora_A" in name)
        }
        write_adapter(folder / f"delta-{k}", delta)
        write_adapter(folder / f"client-{k}", x | {name: x[name] + values for name, values in delta.items()})
        clients.append(folder / f"client-{k}")
        updates.append(ClientUpdate(k, p, p, folder / f"delta-{k}", None))
    fedavg = algorithms.find("fedavg")
    params, facts = fedavg.params(), RoundFacts(number=1, seed=0, scale=lora.scale, first=True)
    aggregated = aggregate(fedavg, params, parent, None, updates, folder, facts=facts, lora=lora, measures_gap=True)
    assert aggregated.factor_gap is not None
    return aggregated.adapter, clients, aggregated.factor_gap


def distance_to_the_mean(lab: Lab, adapter: Path, clients: list[Path], folder: Path) -> float:
    """‖merged − Σ p_k merged_k‖ over all weights."""
    merged = [merge(lab, client, folder / f"merged-{k}") for k, client in enumerate(clients)]
    global_weights, squared = merge(lab, adapter, folder / "merged"), 0.0
    for name, values in global_weights.items():
        mean = sum(p * weights[name].double() for p, weights in zip((0.5, 0.3, 0.2), merged, strict=True))
        squared += float(((values.double() - mean) ** 2).sum())
    return squared**0.5


def test_with_a_frozen_the_merged_model_is_the_mean_of_the_clients_merged_models(lab: Lab, tmp_path: Path) -> None:
    adapter, clients, factor_gap = federate(lab, tmp_path / "round", freeze_a=True)
    assert factor_gap.gap == 0.0
    (before := tmp_path / "before").mkdir()
    moved = distance_to_the_mean(lab, lab.adapter_0(LORA), clients, before)
    assert distance_to_the_mean(lab, adapter, clients, tmp_path) < 1e-5 * moved


def test_without_a_frozen_the_merged_model_lies_the_measured_gap_away(lab: Lab, tmp_path: Path) -> None:
    adapter, clients, factor_gap = federate(lab, tmp_path / "round", freeze_a=False)
    assert factor_gap.gap > 0.01 * factor_gap.moved
    assert distance_to_the_mean(lab, adapter, clients, tmp_path) == pytest.approx(factor_gap.gap, rel=1e-3)
