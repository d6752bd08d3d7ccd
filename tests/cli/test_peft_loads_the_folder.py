"""PEFT itself loads an adapter's folder, without missing or unexpected tensors."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from fedloom.adapters.folder import CONFIG_FILE, WEIGHTS_FILE, peft_config
from shared.adapters.files import write_adapter
from shared.campaign.spec import CampaignSpec

pytestmark = pytest.mark.train


@pytest.mark.parametrize("target_modules", ["all-linear", ["q_proj", "v_proj"]])
def test_peft_loads_the_folder(tmp_path: Path, target_modules: str | list[str]) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")

    def base() -> object:
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2,
            )
        )  # fmt: skip

    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=target_modules, task_type="CAUSAL_LM")
    names = peft.get_peft_model_state_dict(peft.get_peft_model(base(), config))
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(tuple(value.shape), dtype=np.float32) for name, value in names.items()}
    campaign = CampaignSpec.model_validate(
        {
            "name": "c", "base": {"model": "base"}, "lora": {"rank": 4, "alpha": 8, "target_modules": target_modules},
            "training": {"steps": 1}, "data": {"name": "d"}, "rounds": 1,
        }
    )  # fmt: skip
    write_adapter(tmp_path / WEIGHTS_FILE, tensors)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(peft_config(campaign, tensors)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns about missing tensors
        loaded = peft.PeftModel.from_pretrained(base(), tmp_path)
    loaded_tensors = peft.get_peft_model_state_dict(loaded)
    assert set(loaded_tensors) == set(tensors)
    for name, values in tensors.items():
        np.testing.assert_array_equal(loaded_tensors[name].numpy(), values)
    active = loaded.peft_config["default"]
    assert (active.r, active.lora_alpha, active.inference_mode) == (4, 8, True)
